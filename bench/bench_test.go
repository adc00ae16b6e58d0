//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/bench/load"
)

// built is the folder of the program, once there is one.
var built string

// parley builds the program once: scenarios run it as their server and their load.
var parley = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "parley-bench-test-")
	if err != nil {
		return "", err
	}
	built = folder
	program := filepath.Join(folder, "parley")
	out, err := exec.Command("go", "build", "-o", program, "parley/cmd/parley").CombinedOutput()
	return program, errors.Join(err, textError(out))
})

func textError(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	return errors.New(string(out))
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// runBench runs `parley bench` and reads its JSON from standard output.
func runBench(t *testing.T, args ...string) (r Report, stderr string, err error) {
	t.Helper()
	program, err := parley()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, append([]string{"bench"}, append(args, "--json", "-", "--folder", t.TempDir())...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	if err == nil {
		if parseErr := json.Unmarshal(out.Bytes(), &r); parseErr != nil {
			t.Fatalf("%v: %s", parseErr, out.Bytes())
		}
	}
	return r, errs.String(), err
}

func mustBench(t *testing.T, args ...string) Report {
	t.Helper()
	r, stderr, err := runBench(t, args...)
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if r.Errors != 0 || r.FirstError != "" || r.Schema != Schema || r.Scenario != args[0] || r.Host.Cores == 0 || r.Host.FsyncMS == 0 || r.Commit == "" {
		t.Errorf("%+v", r)
	}
	return r
}

func TestDirectMeasuresAServerOfItsOwn(t *testing.T) {
	for _, args := range [][]string{
		{"direct", "--pairs", "4", "--warmup", "100ms", "--duration", "400ms"},
		{"direct", "--pairs", "4", "--warmup", "100ms", "--duration", "400ms", "--rate", "500", "--single"},
		{"lone", "--warmup", "100ms", "--duration", "400ms"},
	} {
		r := mustBench(t, args...)
		if r.Messages == 0 || r.AckedPerSecond <= 0 || r.DeliveredPerSecond <= 0 || r.Ack == nil || r.Deliver == nil ||
			r.Receipt == nil || r.WireBytesPerMessage <= 128 || r.DiskBytesPerMessage <= 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestWireCountsTheBytesOfAnExchange(t *testing.T) {
	r := mustBench(t, "wire")
	// The frames' bodies alone take more than 100, and what is sent twice by mistake would take 200.
	if r.WireBytesPerMessage < 100 || r.WireBytesPerMessage > 200 || r.ResumeBytes < 50 || r.ResumeHandshakeBytes < 100 {
		t.Errorf("%+v", r)
	}
}

func TestSyncAsksThreeTimesAndAfterAStart(t *testing.T) {
	r := mustBench(t, "sync", "--conversations", "20", "--changed", "5", "--rounds", "3")
	if r.SyncAll == nil || r.SyncChanged == nil || r.SyncNone == nil {
		t.Fatalf("%+v", r)
	}
	if r.SyncAll.Bytes < 20*15 || r.SyncChanged.Bytes >= r.SyncAll.Bytes || r.SyncNone.Bytes >= r.SyncChanged.Bytes || r.SyncAll.Pages != 1 {
		t.Errorf("%+v, %+v, %+v", r.SyncAll, r.SyncChanged, r.SyncNone)
	}
}

func TestGroupReachesEveryMember(t *testing.T) {
	for _, args := range [][]string{
		{"group", "--members", "20", "--online", "10", "--warmup", "100ms", "--duration", "400ms"},
		{"group", "--members", "10", "--warmup", "100ms", "--duration", "400ms", "--rate", "100", "--receipts"},
	} {
		r := mustBench(t, args...)
		// Each message reaches all of the others who are connected.
		if r.Messages == 0 || r.DeliveriesPerSecond <= r.AckedPerSecond || r.LastMember == nil || r.WireBytesPerDelivery <= 64 {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestReceiptsAreMeasuredAgainstNone(t *testing.T) {
	r := mustBench(t, "receipts", "--members", "10", "--rate", "50", "--warmup", "1500ms", "--duration", "2s")
	if r.Messages == 0 || r.CursorsPerDelivery <= 0 || r.CountsPerSecond <= 0 || r.LastMemberWithout == nil || r.WireBytesPerReceipt <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestIdleHoldsSessionsOverTwoProcesses(t *testing.T) {
	r := mustBench(t, "idle", "-n", "100", "--processes", "2", "--hold", "100ms")
	// The kernel counts CPU in steps of 10 ms, which so few sessions may not take.
	if r.Sessions != 100 || r.RSSBytes <= 0 || r.Connect == nil {
		t.Errorf("%+v", r)
	}
}

func TestCrashLosesNothing(t *testing.T) {
	r := mustBench(t, "crash", "--cycles", "2", "--clients", "4")
	if r.Cycles != 2 || r.Messages == 0 || r.Reconnects < 8 || r.RestartP50 <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestStorageMeasuresThreeReplicas(t *testing.T) {
	r := mustBench(t, "storage", "--shards", "2", "--conversations", "50", "--warmup", "100ms", "--duration", "400ms")
	if r.Messages == 0 || r.AckedPerSecond <= 0 || r.Ack == nil || r.MessagesPerEntry < 1 || r.DiskBytesPerMessage <= 0 ||
		r.LogBytesPerMessage <= 0 || r.RSSBytes == 0 || r.Config["replicas"] != "3" {
		t.Errorf("%+v", r)
	}
}

func TestDiskCountsStateLogAndWrites(t *testing.T) {
	r := mustBench(t, "disk", "-n", "3000", "--pairs", "7")
	// 429 messages of each of the 7 pairs, of which nobody can keep less than half.
	if r.Messages != 3003 || r.DiskBytesPerMessage < 10 || r.DiskBytesPerMessage > 200 || r.LogBytesPerMessage <= 0 || r.WriteBytesPerMessage < 64 {
		t.Errorf("%+v", r)
	}
}

func TestRestartServesAgain(t *testing.T) {
	r := mustBench(t, "restart", "--store", "100000", "--cycles", "2", "--life", "100ms", "--pairs", "4")
	if r.Cycles != 2 || r.Messages < 100_000/64 || r.RestartP50 <= 0 || r.FirstReceiptMax < r.RestartMax {
		t.Errorf("%+v", r)
	}
}

func TestAServerThatDoesNotStartSaysWhy(t *testing.T) {
	_, stderr, err := runBench(t, "direct", "--serve=--shards=0")
	if err == nil || !strings.Contains(stderr, "shards") {
		t.Errorf("%v: %s", err, stderr)
	}
	_, stderr, err = runBench(t, "direct", "--target", "127.0.0.1:1")
	if err == nil || !strings.Contains(stderr, "--target-data") {
		t.Errorf("%v: %s", err, stderr)
	}
}

func TestAnInterruptStopsEverythingAndRemovesTheData(t *testing.T) {
	program, err := parley()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	c := exec.Command(program, "bench", "direct", "--pairs", "1", "--duration", "1m", "--folder", folder)
	progress, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(progress)
	for lines.Scan() && !strings.Contains(lines.Text(), "warming up") {
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := c.Wait(); err == nil {
		t.Error("an interrupted benchmark succeeded")
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestARunningServerIsMeasuredWhereItIs(t *testing.T) {
	program, err := parley()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{program: program, folder: t.TempDir()}
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.kill(); err != nil {
			t.Error(err)
		}
	}()
	args := []string{"direct", "--pairs", "2", "--warmup", "50ms", "--duration", "200ms",
		"--target", s.address.String(), "--target-data", s.data(), "--target-pid", strconv.Itoa(s.pid())}
	// The second run finds its users, and conversations that have messages.
	for range 2 {
		if r := mustBench(t, args...); r.Messages == 0 || r.RSSBytes == 0 || r.Config["target"] == "" {
			t.Errorf("%+v", r)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func TestProcFilesAreRead(t *testing.T) {
	u, err := readUsage(os.Getpid())
	if err != nil || u.RSS == 0 || u.Anonymous > u.RSS {
		t.Errorf("%+v, %v", u, err)
	}
	cpu, err := parseCPU([]byte("1 (a) b) c) S 1 1 1 0 -1 4194560 1 0 0 0 150 250 0 0 20 0 1 0 1 1 1"))
	if err != nil || cpu != 4*time.Second {
		t.Errorf("%v, %v", cpu, err)
	}
	if _, err := parseCPU([]byte("1 (a) S 1")); !errors.Is(err, errProc) {
		t.Errorf("a short stat: %v", err)
	}
	if _, err := readUsage(1 << 30); !errors.Is(err, errProc) {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestTracersAreRead(t *testing.T) {
	perf := "# started on Mon\n\n123456,,raw_syscalls:sys_enter,2000000,100.00,,\n"
	if n, ok := parsePerf([]byte(perf)); !ok || n != 123456 {
		t.Errorf("perf: %d, %v", n, ok)
	}
	for _, table := range []string{
		"strace: Process 1 attached\n 60.00    0.1          10      1000           read\n------\n100.00    0.2           0      3456        78 total\n",
		"100.00    0.2           0      3456           total\n",
	} {
		if n, ok := parseStrace([]byte(table)); !ok || n != 3456 {
			t.Errorf("strace: %d, %v", n, ok)
		}
	}
	if _, ok := parseStrace([]byte("strace: attach: Operation not permitted\n")); ok {
		t.Error("no table was read")
	}
}

func report(change func(r *Report)) *Report {
	r := &Report{Schema: Schema, Scenario: "direct", Commit: "a", Config: map[string]string{"pairs": "100"}, CPUPerMessage: 10,
		WireBytesPerMessage: 130, AckedPerSecond: 1000, Ack: &load.Latency{P50: 1, P99: 2}}
	change(r)
	return r
}

func TestCompareTellsWhatIsWorse(t *testing.T) {
	for name, test := range map[string]struct {
		change func(r *Report)
		err    error
		shows  string
	}{
		"the same":                  {func(*Report) {}, nil, "cpu_us_per_message"},
		"a little dearer":           {func(r *Report) { r.CPUPerMessage = 11.4 }, nil, "+14.0 %"},
		"dearer":                    {func(r *Report) { r.CPUPerMessage = 11.6 }, ErrWorse, "worse"},
		"cheaper":                   {func(r *Report) { r.CPUPerMessage = 1 }, nil, "-90.0 %"},
		"slower, which is not told": {func(r *Report) { r.AckedPerSecond, r.Ack = 100, &load.Latency{P50: 10, P99: 20} }, nil, "ack_ms.p50"},
		"errors":                    {func(r *Report) { r.Errors = 1 }, ErrWorse, "errors"},
		"another scenario":          {func(r *Report) { r.Scenario = "lone" }, ErrComparable, ""},
		"other settings":            {func(r *Report) { r.Config["pairs"] = "1" }, ErrComparable, ""},
	} {
		var out strings.Builder
		err := compare(&out, report(func(*Report) {}), report(test.change), 0.15)
		if !errors.Is(err, test.err) || !strings.Contains(out.String(), test.shows) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}

func TestReportsAreReadBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	r := report(func(r *Report) { r.Errors = 3 })
	if err := r.WriteJSON(name, nil); err != nil {
		t.Fatal(err)
	}
	back, err := readReport(name)
	if err != nil || back.CPUPerMessage != 10 || back.Ack.P99 != 2 || back.Errors != 3 {
		t.Errorf("%+v, %v", back, err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "connect_us_token") || !strings.Contains(string(b), `"errors": 3`) {
		t.Errorf("what was not measured is not written, and errors always are:\n%s", b)
	}
	newer := strings.Replace(string(b), `"schema": 1`, `"schema": `+strconv.Itoa(Schema+1), 1)
	if err := os.WriteFile(name, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readReport(name); !errors.Is(err, ErrComparable) {
		t.Errorf("a newer schema: %v", err)
	}
}

func TestTheTableHasEachFigureUnderItsName(t *testing.T) {
	var out strings.Builder
	if err := report(func(r *Report) { r.RSSPerSession = 699.5 }).WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cpu_us_per_message", "10.0", "p50 1.000", "rss_bytes_per_session", "699.5", "pairs=100", "errors"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "sync_us_first") {
		t.Error("what was not measured is in the table")
	}
}
