package cluster

import (
	"fmt"
	"math"
)

// AppendChange appends a change's encoding: what is sent to the leader of the map's group.
func AppendChange(dst []byte, c Change) []byte {
	start := len(dst)
	return seal(c.append(append(dst, byte(c.kind()))), start)
}

// ParseChange decodes a change.
func ParseChange(b []byte) (Change, error) {
	body, ok := unseal(b)
	if !ok || len(body) == 0 || len(b) > ChangeBytesMax {
		return nil, fmt.Errorf("%w: checksum or size", ErrBadChange)
	}
	d := decoder{rest: body[1:]}
	c := d.change(changeKind(body[0]))
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadChange, err)
	}
	return c, nil
}

func (d *decoder) change(kind changeKind) Change {
	switch kind {
	case changeFound:
		return Found{
			Cluster: d.number(math.MaxUint64), Shards: int(d.number(ShardsMax)),
			Replica: d.text(IdentityBytesMax), MapReplica: d.text(IdentityBytesMax),
			Replicas: int(d.number(ReplicasMax)), Version: int(d.number(math.MaxInt32)), Node: d.describedNode(),
		}
	case changeAddNode:
		return AddNode{Node: d.describedNode()}
	case changeReplaceNode:
		return ReplaceNode{Old: d.node(), Node: d.describedNode(), Down: d.numbers(NodesMax)}
	case changeSetNode:
		return d.setNode()
	case changeRemoveNode:
		return RemoveNode{Number: d.node(), Down: d.numbers(NodesMax), Epoch: d.number(math.MaxUint64)}
	case changeSetReplicas:
		return SetReplicas{
			Shard: d.node(), Replicas: d.replicas(), Preferred: d.node(), Pinned: d.flag(),
			Epoch: d.number(math.MaxUint64),
		}
	case changeSetPreferred:
		return SetPreferred{Shard: d.node(), Node: d.node()}
	case changeSetMapReplicas:
		return SetMapReplicas{Replicas: d.replicas(), Epoch: d.number(math.MaxUint64)}
	case changeSetCopies:
		return SetCopies{Copies: int(d.number(ReplicasMax))}
	case changeSetVersion:
		return SetVersion{Version: int(d.number(math.MaxInt32))}
	}
	d.fail(fmt.Errorf("cluster: unknown change %d: is this program older than the cluster's version?", kind))
	return nil
}

func (c Found) append(dst []byte) []byte {
	dst = appendNumber(dst, c.Cluster)
	dst = appendNumber(dst, uint64(c.Shards))
	dst = appendText(dst, c.Replica)
	dst = appendText(dst, c.MapReplica)
	dst = appendNumber(dst, uint64(c.Replicas))
	dst = appendNumber(dst, uint64(c.Version))
	return appendNode(dst, &c.Node)
}

func (c AddNode) append(dst []byte) []byte { return appendNode(dst, &c.Node) }

func (c ReplaceNode) append(dst []byte) []byte {
	dst = appendNode(appendNumber(dst, uint64(c.Old)), &c.Node)
	return appendNumbers(dst, c.Down)
}

func (c RemoveNode) append(dst []byte) []byte {
	dst = appendNumbers(appendNumber(dst, uint64(c.Number)), c.Down)
	return appendNumber(dst, c.Epoch)
}

func (c SetReplicas) append(dst []byte) []byte {
	dst = appendReplicas(appendNumber(dst, uint64(c.Shard)), c.Replicas)
	dst = appendFlag(appendNumber(dst, uint64(c.Preferred)), c.Pinned)
	return appendNumber(dst, c.Epoch)
}

func (c SetPreferred) append(dst []byte) []byte {
	return appendNumber(appendNumber(dst, uint64(c.Shard)), uint64(c.Node))
}

func (c SetMapReplicas) append(dst []byte) []byte {
	return appendNumber(appendReplicas(dst, c.Replicas), c.Epoch)
}

func (c SetCopies) append(dst []byte) []byte  { return appendNumber(dst, uint64(c.Copies)) }
func (c SetVersion) append(dst []byte) []byte { return appendNumber(dst, uint64(c.Version)) }

// Bits of the values that a SetNode carries, in the order in which they follow.
const (
	setName = 1 << iota
	setAddress
	setClient
	setZone
	setWeight
	setState
	setVersion
	setAll = 1<<iota - 1
)

func (c SetNode) append(dst []byte) []byte {
	dst = appendNumber(dst, uint64(c.Number))
	at := len(dst)
	dst = append(dst, 0)
	for i, text := range [...]*string{c.Name, c.Address, c.Client, c.Zone} {
		if text != nil {
			dst[at] |= 1 << i
			dst = appendText(dst, *text)
		}
	}
	if c.Weight != nil {
		dst[at] |= setWeight
		dst = appendNumber(dst, uint64(*c.Weight))
	}
	if c.State != nil {
		dst[at] |= setState
		dst = append(dst, byte(*c.State))
	}
	if c.Version != nil {
		dst[at] |= setVersion
		dst = appendNumber(dst, uint64(*c.Version))
	}
	return dst
}

func (d *decoder) setNode() SetNode {
	c := SetNode{Number: d.node()}
	bits := d.number(setAll)
	text := func(bit uint64, most int) *string {
		if bits&bit == 0 {
			return nil
		}
		s := d.text(most)
		return &s
	}
	number := func(bit uint64) *int {
		if bits&bit == 0 {
			return nil
		}
		n := int(d.number(math.MaxInt32))
		return &n
	}
	c.Name, c.Address = text(setName, NameBytesMax), text(setAddress, AddressBytesMax)
	c.Client, c.Zone = text(setClient, AddressBytesMax), text(setZone, NameBytesMax)
	c.Weight = number(setWeight)
	if bits&setState != 0 {
		state := NodeState(d.number(uint64(Removed)))
		c.State = &state
	}
	c.Version = number(setVersion)
	return c
}
