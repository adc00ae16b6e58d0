package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"parley/wire"
)

// Encodings of this package are positional: numbers as varints in their shortest form,
// texts and lists after their length. What travels or lies on disk by itself is sealed: a
// checksum (CRC-32C, little endian) follows.

// errTruncated is what a decoder finds at the end of short input; callers say of what.
var errTruncated = errors.New("cluster: truncated or not in its shortest form")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumSize = 4

// seal appends the checksum of what follows start.
func seal(dst []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// unseal checks and cuts off a checksum.
func unseal(b []byte) ([]byte, bool) {
	n := len(b) - checksumSize
	if n < 0 || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, false
	}
	return b[:n], true
}

func appendNumber(dst []byte, n uint64) []byte { return binary.AppendUvarint(dst, n) }

func appendText[T string | []byte](dst []byte, text T) []byte {
	return append(appendNumber(dst, uint64(len(text))), text...)
}

func appendFlag(dst []byte, flag bool) []byte {
	if flag {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// A decoder reads an encoding. The first error sticks, and everything after it is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.rest = err, nil
	}
}

func (d *decoder) number(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || size > 1 && d.rest[size-1] == 0 {
		d.fail(errTruncated)
		return 0
	}
	if n > most {
		d.fail(fmt.Errorf("cluster: %d is more than %d", n, most))
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) node() uint32 { return uint32(d.number(math.MaxUint32)) }

func (d *decoder) text(most int) string { return string(d.bytes(most)) }

// bytes returns a part of the input, not a copy.
func (d *decoder) bytes(most int) []byte {
	n := d.number(uint64(most))
	if d.err == nil && n > uint64(len(d.rest)) {
		d.fail(errTruncated)
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) flag() bool { return d.number(1) == 1 }

// length is that of a list whose elements take at least one byte each.
func (d *decoder) length(most int) int {
	n := d.number(uint64(most))
	if n > uint64(len(d.rest)) {
		d.fail(errTruncated)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// end wants all input to be used up.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("cluster: %d bytes too many", len(d.rest))
	}
	return d.err
}

// AppendMap appends a map's encoding: the same map is always the same bytes.
func AppendMap(dst []byte, m *Map) []byte {
	start := len(dst)
	return seal(m.append(dst), start)
}

func (m *Map) append(dst []byte) []byte {
	dst = append(dst, mapVersion)
	dst = appendNumber(dst, m.Cluster)
	dst = appendNumber(dst, m.Epoch)
	dst = appendNumber(dst, uint64(m.ClusterVersion))
	dst = appendNumber(dst, uint64(m.NextNode))
	dst = appendNumber(dst, uint64(m.Replicas))
	dst = appendNumber(dst, uint64(len(m.Nodes)))
	for i := range m.Nodes {
		dst = appendNumber(dst, uint64(m.Nodes[i].Number))
		dst = append(dst, byte(m.Nodes[i].State))
		dst = appendNode(dst, &m.Nodes[i])
	}
	dst = appendNumber(dst, uint64(len(m.Shards)))
	for i := range m.Shards {
		s := &m.Shards[i]
		dst = appendNumber(dst, uint64(s.Last))
		dst = appendNumber(dst, uint64(s.Preferred))
		dst = appendFlag(dst, s.Pinned)
		dst = appendReplicas(dst, s.Replicas)
	}
	return appendReplicas(dst, m.MapReplicas)
}

// ParseMap decodes a map and checks it.
func ParseMap(b []byte) (*Map, error) {
	if len(b) > MapBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrBadMap, len(b))
	}
	body, ok := unseal(b)
	if !ok {
		return nil, fmt.Errorf("%w: checksum", ErrBadMap)
	}
	d := decoder{rest: body}
	m := d.clusterMap()
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadMap, err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

func (d *decoder) clusterMap() *Map {
	m := &Map{}
	if m.Version = int(d.number(math.MaxInt32)); m.Version != mapVersion {
		d.fail(fmt.Errorf("cluster: encoding version %d, this program knows %d", m.Version, mapVersion))
	}
	m.Cluster = d.number(math.MaxUint64)
	m.Epoch = d.number(math.MaxUint64)
	m.ClusterVersion = int(d.number(math.MaxInt32))
	m.NextNode = d.node()
	m.Replicas = int(d.number(ReplicasMax))
	for range d.length(NodesMax) {
		number, state := d.node(), NodeState(d.number(uint64(Removed)))
		n := d.describedNode()
		n.Number, n.State = number, state
		m.Nodes = append(m.Nodes, n)
	}
	first := wire.Slot(0)
	for i := range d.length(ShardsMax) {
		s := Shard{ID: uint32(i), First: first, Last: wire.Slot(d.number(slots - 1))}
		s.Preferred, s.Pinned, s.Replicas = d.node(), d.flag(), d.replicas()
		first = s.Last + 1
		m.Shards = append(m.Shards, s)
	}
	m.MapReplicas = d.replicas()
	return m
}

// appendNode appends what a node says of itself: all but number and state.
func appendNode(dst []byte, n *Node) []byte {
	dst = appendText(dst, n.Name)
	dst = appendText(dst, n.Address)
	dst = appendText(dst, n.Client)
	dst = appendText(dst, n.Zone)
	dst = appendNumber(dst, uint64(n.Weight))
	dst = appendText(dst, n.Identity)
	return appendNumber(dst, uint64(n.Version))
}

func (d *decoder) describedNode() Node {
	return Node{
		Name: d.text(NameBytesMax), Address: d.text(AddressBytesMax), Client: d.text(AddressBytesMax),
		Zone: d.text(NameBytesMax), Weight: int(d.number(math.MaxInt32)),
		Identity: d.text(IdentityBytesMax), Version: int(d.number(math.MaxInt32)),
	}
}

func appendReplicas(dst []byte, replicas []Replica) []byte {
	dst = appendNumber(dst, uint64(len(replicas)))
	for _, r := range replicas {
		dst = appendText(dst, r.ID)
	}
	return dst
}

func (d *decoder) replicas() []Replica {
	var replicas []Replica
	for range d.length(ReplicasMax) {
		id := d.text(IdentityBytesMax)
		node, ok := NodeOf(id)
		if !ok {
			d.fail(fmt.Errorf("cluster: %q is no replica id", id))
		}
		replicas = append(replicas, Replica{Node: node, ID: id})
	}
	return replicas
}

func appendNumbers(dst []byte, list []uint32) []byte {
	dst = appendNumber(dst, uint64(len(list)))
	for _, n := range list {
		dst = appendNumber(dst, uint64(n))
	}
	return dst
}

func (d *decoder) numbers(most int) []uint32 {
	var list []uint32
	for range d.length(most) {
		list = append(list, d.node())
	}
	return list
}
