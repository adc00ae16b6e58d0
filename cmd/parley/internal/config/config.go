package config

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"parley/engine"
	"parley/engine/admin"
	"parley/engine/cluster"
	"parley/engine/router"
)

// A Config is a server's settings, complete and checked.
type Config struct {
	Data             string
	Listen           string
	Admin            string // empty: no admin port
	Shards           int
	Loops            int // 0: one for every two cores
	ConnectionsMax   int // 0: what the limit of open files allows
	TicketLifetime   time.Duration
	DrainSpread      time.Duration
	DiskReserveBytes int64
	BufferBytesMax   int64
	CacheBytes       int64 // 0: the store's default
	FlushInterval    time.Duration
	ClusterListen    string // empty: a node alone
	ClusterAdvertise string
	Join             string // addresses, separated by commas
	JoinToken        string
	NodeName         string
	NodeZone         string
	NodeWeight       int
	ClientAddress    string
	ClusterCA        string // files of certificates; all or none
	ClusterCert      string
	ClusterKey       string
	LogFormat        string // auto, text or json
	LogLevel         slog.Level
}

// A Key is one setting.
type Key struct {
	Name    string // in the file, as snake_case
	Default string
	Doc     string // a sentence or two, with what is allowed
	Hint    string // for usage texts: what the value looks like
	parse   func(c *Config, text string) error
}

// Flag is the key's name as a command-line flag.
func (k *Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// Variable is the key's name in the environment.
func (k *Key) Variable() string { return variablePrefix + strings.ToUpper(k.Name) }

// Check reports whether a text is a possible value.
func (k *Key) Check(text string) error { return k.parse(new(Config), text) }

// Keys are all settings, in the order in which they are documented.
var Keys = []Key{
	{Name: "data", Default: "./data", Hint: "DIR",
		Doc:   "The data directory. It is made if it does not exist, and one server at a time can use it.",
		parse: text(func(c *Config) *string { return &c.Data }, notEmpty)},
	{Name: "listen", Default: "127.0.0.1:7070", Hint: "HOST:PORT",
		Doc:   "Where clients connect, by WebSocket. Port 0 picks a free port; host 0.0.0.0 is every interface.",
		parse: text(func(c *Config) *string { return &c.Listen }, hostPort)},
	{Name: "admin", Default: "127.0.0.1:7071", Hint: "HOST:PORT",
		Doc:   "Where metrics, health and profiles are served. Only a loopback address is allowed, because there is no password; \"off\" for none.",
		parse: adminAddress},
	{Name: "shards", Default: fmt.Sprint(engine.ShardsDefault), Hint: "N",
		Doc:   fmt.Sprintf("How many shards a new data directory gets, 1 to %d; an existing one keeps its own.", router.ShardsMax),
		parse: integer(func(c *Config) *int { return &c.Shards }, 1, router.ShardsMax)},
	{Name: "loops", Default: "0", Hint: "N",
		Doc:   fmt.Sprintf("How many event loops serve the connections, 1 to %d; 0 is one for every two cores.", engine.LoopsMax),
		parse: integer(func(c *Config) *int { return &c.Loops }, 0, engine.LoopsMax)},
	{Name: "connections_max", Default: "0", Hint: "N",
		Doc:   "How many connections may be open, up to 10000000; 0 is as many as the limit of open files allows, less a reserve.",
		parse: integer(func(c *Config) *int { return &c.ConnectionsMax }, 0, 10_000_000)},
	{Name: "ticket_lifetime", Default: span(engine.TicketLifetimeDefault), Hint: "TIME",
		Doc:   fmt.Sprintf("How long a resume ticket is good, 1s to %s: a client that was away for longer shows its token again.", span(engine.TicketLifetimeMax)),
		parse: duration(func(c *Config) *time.Duration { return &c.TicketLifetime }, time.Second, engine.TicketLifetimeMax)},
	{Name: "drain_spread", Default: span(engine.DrainSpreadDefault), Hint: "TIME",
		Doc:   "Over which time the clients of a stopping server are told to come back, 0s to 10m.",
		parse: duration(func(c *Config) *time.Duration { return &c.DrainSpread }, 0, 10*time.Minute)},
	{Name: "disk_reserve_bytes", Default: size(engine.DiskReserveBytesDefault), Hint: "SIZE",
		Doc:   "How much of the disk stays free, 1MiB to 1TiB: below it new messages are refused, and reading goes on.",
		parse: bytes(func(c *Config) *int64 { return &c.DiskReserveBytes }, 1<<20, 1<<40)},
	{Name: "buffer_bytes_max", Default: "64MiB", Hint: "SIZE",
		Doc:   "How much state may wait in memory for the next flush, 1MiB to 16GiB; it is safe in the log.",
		parse: bytes(func(c *Config) *int64 { return &c.BufferBytesMax }, 1<<20, 16<<30)},
	{Name: "cache_bytes", Default: "0", Hint: "SIZE",
		Doc:   "How much memory caches state that was read from disk, up to 1TiB; 0 is the store's own choice.",
		parse: bytes(func(c *Config) *int64 { return &c.CacheBytes }, 0, 1<<40)},
	{Name: "flush_interval", Default: "30s", Hint: "TIME",
		Doc:   "How long state may wait in memory, 1s to 1h. The longer, the more a restart has to replay.",
		parse: duration(func(c *Config) *time.Duration { return &c.FlushInterval }, time.Second, time.Hour)},
	{Name: "cluster_listen", Default: "", Hint: "HOST:PORT",
		Doc:   "Where other nodes connect. Empty: this node is alone. Port 0 picks a free port.",
		parse: text(func(c *Config) *string { return &c.ClusterListen }, emptyOr(hostPort))},
	{Name: "cluster_advertise", Default: "", Hint: "HOST:PORT",
		Doc:   "The address that other nodes are told; empty is where cluster_listen listens.",
		parse: text(func(c *Config) *string { return &c.ClusterAdvertise }, emptyOr(hostPort))},
	{Name: "join", Default: "", Hint: "HOST:PORT,...",
		Doc:   "Nodes of the cluster that an empty data directory joins, separated by commas. One that has joined knows its cluster.",
		parse: text(func(c *Config) *string { return &c.Join }, hostPorts)},
	{Name: "join_token", Default: "", Hint: "TOKEN",
		Doc:   "The invitation that `parley node add` printed on a member; needed once, to join.",
		parse: text(func(c *Config) *string { return &c.JoinToken }, anything)},
	{Name: "node_name", Default: "", Hint: "NAME",
		Doc:   "What operators call this node; empty is n and its number.",
		parse: text(func(c *Config) *string { return &c.NodeName }, anything)},
	{Name: "node_zone", Default: "", Hint: "ZONE",
		Doc:   "What fails together with this node, such as a rack or a data centre: copies of a shard are kept in different zones.",
		parse: text(func(c *Config) *string { return &c.NodeZone }, anything)},
	{Name: "node_weight", Default: fmt.Sprint(cluster.WeightDefault), Hint: "N",
		Doc:   fmt.Sprintf("This node's share of shards in proportion to that of others, 1 to %d.", cluster.WeightMax),
		parse: integer(func(c *Config) *int { return &c.NodeWeight }, 1, cluster.WeightMax)},
	{Name: "client_address", Default: "", Hint: "URL",
		Doc:   "Where clients reach this node, as other nodes should tell them; empty is not told.",
		parse: text(func(c *Config) *string { return &c.ClientAddress }, anything)},
	{Name: "cluster_ca", Default: "", Hint: "FILE",
		Doc:   "The certificate of the authority that signed the nodes' certificates (`parley node cert` makes one). Without certificates only loopback addresses can be used between nodes.",
		parse: text(func(c *Config) *string { return &c.ClusterCA }, anything)},
	{Name: "cluster_cert", Default: "", Hint: "FILE",
		Doc:   "This node's certificate.",
		parse: text(func(c *Config) *string { return &c.ClusterCert }, anything)},
	{Name: "cluster_key", Default: "", Hint: "FILE",
		Doc:   "The key of this node's certificate.",
		parse: text(func(c *Config) *string { return &c.ClusterKey }, anything)},
	{Name: "log_format", Default: "auto", Hint: "FORMAT",
		Doc:   "How the log is written to standard error: text, json, or auto, which is text on a terminal and json elsewhere.",
		parse: text(func(c *Config) *string { return &c.LogFormat }, oneOf("auto", "text", "json"))},
	{Name: "log_level", Default: "info", Hint: "LEVEL",
		Doc:   "The least level that is logged: debug, info, warn or error.",
		parse: logLevel},
}

// Default is the configuration when nothing is set.
func Default() Config {
	var c Config
	for i := range Keys {
		_ = Keys[i].parse(&c, Keys[i].Default) // a test shows that every default is allowed
	}
	return c
}

// find gives the key of a name, or nil.
func find(name string) *Key {
	for i := range Keys {
		if Keys[i].Name == name {
			return &Keys[i]
		}
	}
	return nil
}

func adminAddress(c *Config, value string) error {
	if value == "off" {
		c.Admin = ""
		return nil
	}
	if hostPort(value) != nil || admin.CheckAddress(value) != nil {
		return fmt.Errorf("must be a loopback address with a port, such as 127.0.0.1:7071, or off, not %q", value)
	}
	c.Admin = value
	return nil
}

func logLevel(c *Config, value string) error {
	levels := []string{"debug", "info", "warn", "error"}
	if err := oneOf(levels...)(value); err != nil {
		return err
	}
	return c.LogLevel.UnmarshalText([]byte(value))
}
