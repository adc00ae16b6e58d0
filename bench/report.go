//go:build linux

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"parley/bench/load"
)

// Schema is the version of the JSON form of a Report. Names are added without changing it; a
// figure that means something else gets a new name.
const Schema = 1

// SyncFigures are what one SYNC costs.
type SyncFigures struct {
	CPU   float64       `json:"cpu_us"`  // of the server
	Bytes float64       `json:"bytes"`   // both ways, WebSocket headers included
	Pages float64       `json:"pages"`   // CONVERSATIONS frames
	Time  *load.Latency `json:"time_ms"` // SYNC to the last page
}

// A Report is the result of one scenario. A figure that was not measured is absent.
type Report struct {
	Schema   int               `json:"schema"`
	Scenario string            `json:"scenario"`
	Time     time.Time         `json:"time"`
	Commit   string            `json:"commit"`
	Host     Host              `json:"host"`
	Config   map[string]string `json:"config"` // the scenario's settings and the server's flags

	CPUPerMessage      float64 `json:"cpu_us_per_message,omitempty"`      // of the server, user and system; storage: of all replicas
	LoadCPUPerMessage  float64 `json:"load_cpu_us_per_message,omitempty"` // of the process that applies the load
	AckedPerSecond     float64 `json:"acked_per_second,omitempty"`
	DeliveredPerSecond float64 `json:"delivered_per_second,omitempty"`
	OfferedPerSecond   float64 `json:"offered_per_second,omitempty"` // open loop only

	Ack     *load.Latency `json:"ack_ms,omitempty"`     // send to SENT
	Deliver *load.Latency `json:"deliver_ms,omitempty"` // send to the other's MESSAGE
	Receipt *load.Latency `json:"receipt_ms,omitempty"` // send to the delivered RECEIPT

	CursorsPerMessage  float64 `json:"cursors_per_message,omitempty"`  // CURSOR frames; they are cumulative
	ReceiptsPerMessage float64 `json:"receipts_per_message,omitempty"` // RECEIPT frames
	IOCallsPerMessage  float64 `json:"io_calls_per_message,omitempty"` // read and write calls, from /proc/PID/io
	SyscallsPerMessage float64 `json:"syscalls_per_message,omitempty"` // all of them, by strace or perf

	CPUPerDelivery       float64       `json:"cpu_us_per_delivery,omitempty"` // of the server, for each message and session that it reaches
	LoadCPUPerDelivery   float64       `json:"load_cpu_us_per_delivery,omitempty"`
	DeliveriesPerSecond  float64       `json:"deliveries_per_second,omitempty"`
	LastMember           *load.Latency `json:"last_member_ms,omitempty"` // send to the MESSAGE of the last session
	WireBytesPerDelivery float64       `json:"wire_bytes_per_delivery,omitempty"`
	CursorsPerDelivery   float64       `json:"cursors_per_delivery,omitempty"` // CURSOR frames
	HeadsPerDelivery     float64       `json:"heads_per_delivery,omitempty"`   // HEAD frames, each in place of pushes
	CountsPerSecond      float64       `json:"counts_per_second,omitempty"`    // COUNTS frames to the author

	CPUPerReceipt       float64       `json:"cpu_us_per_receipt,omitempty"`      // of the server, for each message that a member has read
	WireBytesPerReceipt float64       `json:"wire_bytes_per_receipt,omitempty"`  // CURSOR frames and COUNTS frames
	CPUWithout          float64       `json:"cpu_us_per_delivery_off,omitempty"` // cpu_us_per_delivery without receipts
	LastMemberWithout   *load.Latency `json:"last_member_ms_off,omitempty"`      // last_member_ms without receipts

	MessagesPerEntry     float64 `json:"messages_per_entry,omitempty"`      // of the log
	WireBytesPerMessage  float64 `json:"wire_bytes_per_message,omitempty"`  // both sides' sockets, both ways, WebSocket headers included
	ResumeBytes          float64 `json:"resume_bytes,omitempty"`            // nothing changed; without the HTTP handshake
	ResumeHandshakeBytes float64 `json:"resume_handshake_bytes,omitempty"`  // the HTTP handshake
	DiskBytesPerMessage  float64 `json:"disk_bytes_per_message,omitempty"`  // of state, after the last flush
	LogBytesPerMessage   float64 `json:"log_bytes_per_message,omitempty"`   // of the log that is still kept
	WriteBytesPerMessage float64 `json:"write_bytes_per_message,omitempty"` // all that went to disk

	Sessions            float64       `json:"sessions,omitempty"`
	RSSBytes            float64       `json:"rss_bytes,omitempty"`      // of the server under load
	RSSBytesIdle        float64       `json:"rss_bytes_idle,omitempty"` // before the first session
	RSSPerSession       float64       `json:"rss_bytes_per_session,omitempty"`
	AnonymousPerSession float64       `json:"rss_anonymous_bytes_per_session,omitempty"` // without the pages of the program's file
	ConnectToken        float64       `json:"connect_us_token,omitempty"`                // CPU, connect to WELCOME
	ConnectTicket       float64       `json:"connect_us_ticket,omitempty"`
	SyncToken           float64       `json:"sync_us_first,omitempty"`     // CPU of a first SYNC
	SyncTicket          float64       `json:"sync_us_unchanged,omitempty"` // CPU of a SYNC with nothing changed
	HeartbeatCPU        float64       `json:"idle_cpu_us_per_session_minute,omitempty"`
	Connect             *load.Latency `json:"connect_ms,omitempty"` // dial to WELCOME

	SyncAll     *SyncFigures `json:"sync_all,omitempty"`     // every conversation has changed
	SyncChanged *SyncFigures `json:"sync_changed,omitempty"` // some have
	SyncNone    *SyncFigures `json:"sync_none,omitempty"`    // nothing has
	SyncCold    float64      `json:"sync_us_cold,omitempty"` // CPU of connecting and the first SYNC of everything, after a start

	Messages  uint64 `json:"messages,omitempty"` // that the figures are made of
	Cycles    uint64 `json:"cycles,omitempty"`
	Lost      uint64 `json:"lost,omitempty"`
	Doubled   uint64 `json:"doubled,omitempty"`
	Gaps      uint64 `json:"gaps,omitempty"`
	Backwards uint64 `json:"receipts_backwards,omitempty"`
	Other     uint64 `json:"other_errors,omitempty"`

	Resent     uint64  `json:"resent,omitempty"`
	Reconnects uint64  `json:"reconnects,omitempty"`
	RestartP50 float64 `json:"restart_ms_p50,omitempty"` // start of the process until it serves
	RestartMax float64 `json:"restart_ms_max,omitempty"`

	Failover *load.Latency `json:"failover_ms,omitempty"` // SIGKILL of a leader's node until its shard acknowledges again
	Transfer *load.Latency `json:"transfer_ms,omitempty"` // longest time without an acknowledgement while a shard is handed over
	Rolling  *load.Latency `json:"rolling_ms,omitempty"`  // the same of each user and conversation while all nodes are restarted in turn
	Outage   *load.Latency `json:"outage_ms,omitempty"`   // the same while a node joins

	AckBefore            *load.Latency `json:"ack_ms_before,omitempty"`           // before a node joined
	AckedPerSecondBefore float64       `json:"acked_per_second_before,omitempty"` // before a node joined
	MoveSeconds          float64       `json:"move_seconds,omitempty"`            // from the start of a node until shards have come to rest

	Back              *load.Latency `json:"back_ms,omitempty"`              // death of a session's node until it has synced at another
	ReconnectCPU      float64       `json:"reconnect_us,omitempty"`         // CPU of the other nodes for each session that came back
	CPUPercentPerNode float64       `json:"cpu_percent_per_node,omitempty"` // of an idle node, of one core

	FirstReceiptP50 float64 `json:"first_receipt_ms_p50,omitempty"` // start of the process until a message was stored, delivered and receipted
	FirstReceiptMax float64 `json:"first_receipt_ms_max,omitempty"`

	Errors     uint64 `json:"errors"`
	FirstError string `json:"first_error,omitempty"`
}

func (r *Report) complain(c load.Complaints) {
	r.Errors += c.Errors
	if r.FirstError == "" {
		r.FirstError = c.First
	}
}

// WriteJSON writes the report to a file, or to w if the name is "-".
func (r *Report) WriteJSON(name string, w io.Writer) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b = append(b, '\n')
	if name == "-" {
		_, err = w.Write(b)
	} else {
		err = os.WriteFile(name, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("bench: write the report: %w", err)
	}
	return nil
}

// WriteTable writes the report for people: one figure a line, under its name in JSON.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "scenario\t%s, commit %s\n", r.Scenario, r.Commit)
	fmt.Fprintf(t, "host\t%d cores, Linux %s, fsync p50 %.2f ms\n", r.Host.Cores, r.Host.Kernel, r.Host.FsyncMS)
	var config []string
	for _, name := range slices.Sorted(maps.Keys(r.Config)) {
		config = append(config, name+"="+r.Config[name])
	}
	fmt.Fprintf(t, "config\t%s\n", strings.Join(config, " "))
	for name, value := range r.figures() {
		fmt.Fprintf(t, "%s\t%s\n", name, value)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("bench: write the table: %w", err)
	}
	return nil
}

// figures visits what was measured, in the order of the fields. Errors come even if there are none.
func (r *Report) figures() func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		v := reflect.ValueOf(r).Elem()
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			text := ""
			switch x := v.Field(i).Interface().(type) {
			case float64:
				text = formatFigure(x)
			case *load.Latency:
				if x != nil {
					text = fmt.Sprintf("p50 %.3f  p90 %.3f  p99 %.3f  max %.3f", x.P50, x.P90, x.P99, x.Max)
				}
			case *SyncFigures:
				if x != nil && x.Time != nil {
					text = fmt.Sprintf("%.1f CPU-µs  %.0f bytes  %.1f pages  p50 %.3f ms", x.CPU, x.Bytes, x.Pages, x.Time.P50)
				}
			case uint64:
				if x != 0 || name == "errors" {
					text = fmt.Sprint(x)
				}
			case string:
				if name == "first_error" {
					text = x
				}
			}
			if text != "" && !yield(name, text) {
				return
			}
		}
	}
}

// formatFigure keeps three digits of small figures and none of large ones' fractions.
func formatFigure(x float64) string {
	switch {
	case x == 0:
		return ""
	case x < 10 && x > -10:
		return fmt.Sprintf("%.3f", x)
	case x < 1000 && x > -1000:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
