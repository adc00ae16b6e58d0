package delivery

import "parley/wire"

// Attached knows, at a replica of a shard, which nodes have sessions of a user who takes
// part in the shard, and which of them want the messages of a group. Its owner's mutex
// guards it; its zero value is empty.
type Attached struct {
	rows   pairs
	groups pairs             // with the index from which the node knows why
	tags   map[uint32]uint16 // of the nodes that anybody is attached from
	nodes  []uint32          // by tag; 0: free
	free   []uint16
}

// Attach enters users as having sessions at a node. It says no if there are more nodes
// than AttachedNodesMax.
func (a *Attached) Attach(node uint32, users ...wire.ID) bool {
	tag, ok := a.tag(node)
	if !ok {
		return false
	}
	for _, user := range users {
		a.rows.add(user, tag)
	}
	return true
}

func (a *Attached) tag(node uint32) (tag uint16, ok bool) {
	if tag, ok = a.tags[node]; ok {
		return tag, true
	}
	return a.newTag(node)
}

func (a *Attached) newTag(node uint32) (tag uint16, ok bool) {
	if n := len(a.free); n > 0 {
		tag, a.free = a.free[n-1], a.free[:n-1]
	} else {
		if len(a.nodes) >= AttachedNodesMax {
			return 0, false
		}
		tag = uint16(len(a.nodes))
		a.nodes = append(a.nodes, 0)
	}
	if a.tags == nil {
		a.tags = make(map[uint32]uint16)
	}
	a.nodes[tag], a.tags[node] = node, tag
	return tag, true
}

// Detach takes users out whose last session at a node has ended.
func (a *Attached) Detach(node uint32, users ...wire.ID) {
	tag, ok := a.tags[node]
	if !ok {
		return
	}
	for _, user := range users {
		a.rows.remove(user, tag)
	}
}

// Want enters groups whose messages a node wants, because users of it are members. index
// is where a stream that goes beyond it has told the node so.
func (a *Attached) Want(node uint32, index uint64, groups ...wire.ID) bool {
	tag, ok := a.tag(node)
	if !ok {
		return false
	}
	for _, group := range groups {
		a.groups.addNumber(group, tag, index)
	}
	return true
}

// Unwant takes groups out that a node wants no more, as far as it was told up to an index.
func (a *Attached) Unwant(node uint32, index uint64, groups ...wire.ID) {
	tag, ok := a.tags[node]
	if !ok {
		return
	}
	for _, group := range groups {
		if n := a.groups.number(group, tag); n != nil && *n <= index {
			a.groups.remove(group, tag)
		}
	}
}

// AppendWanting appends the nodes that want the messages of a group.
func (a *Attached) AppendWanting(dst []uint32, group wire.ID) []uint32 {
	for tag := range a.groups.tags(group) {
		dst = append(dst, a.nodes[tag])
	}
	return dst
}

// Wants reports whether a node wants the messages of a group.
func (a *Attached) Wants(node uint32, group wire.ID) bool {
	tag, ok := a.tags[node]
	return ok && a.groups.has(group, tag)
}

// DropNode takes out all users of a node.
func (a *Attached) DropNode(node uint32) {
	tag, ok := a.tags[node]
	if !ok {
		return
	}
	a.rows.dropTag(tag)
	a.groups.dropTag(tag)
	delete(a.tags, node)
	a.nodes[tag] = 0
	a.free = append(a.free, tag)
}

// Append appends the nodes that have sessions of a user.
func (a *Attached) Append(dst []uint32, user wire.ID) []uint32 {
	p := &a.rows
	if p.used == 0 {
		return dst
	}
	mask := uint64(len(p.places) - 1)
	for at := p.home(user); p.places[at] != 0; at = (at + 1) & mask {
		if pair := p.places[at]; userOf(pair) == user {
			dst = append(dst, a.nodes[uint16(pair)])
		}
	}
	return dst
}

// Has reports whether a user has sessions at a node.
func (a *Attached) Has(node uint32, user wire.ID) bool {
	tag, ok := a.tags[node]
	return ok && a.rows.has(user, tag)
}

// Len is the number of rows: users, counted once for each node.
func (a *Attached) Len() int { return a.rows.used }
