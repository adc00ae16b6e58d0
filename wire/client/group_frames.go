package client

import "parley/wire"

// aboutGroup reports whether a request is one that only a server with groups knows.
func (r *request) aboutGroup() bool {
	return r != nil && (r.kind == requestMembers || r.kind == requestGroup || r.kind == requestJoin)
}

func appendGroupRequest(dst []byte, r *request) []byte {
	switch r.kind {
	case requestMembers:
		q := r.members
		q.Correlation = r.correlation
		return wire.AppendMembers(dst, &q)
	case requestJoin:
		return wire.AppendJoin(dst, &wire.Join{Correlation: r.correlation, Ref: r.members.Ref, Secret: r.secret})
	default:
		return wire.AppendGroupInfo(dst, &wire.GroupInfo{Correlation: r.correlation, Ref: r.members.Ref})
	}
}

// appendSend appends a message, or the change of a group that it stands for.
func appendSend(dst []byte, correlation uint64, s *send) []byte {
	if event, ok := s.Content.EventBody(); ok {
		return wire.AppendGroupChange(dst, &wire.GroupChange{Correlation: correlation, Ref: s.Ref, Counter: s.Counter, Event: event})
	}
	return wire.AppendSend(dst, &wire.Send{Correlation: correlation, Ref: s.Ref, Counter: s.Counter, Content: s.Content})
}

// learnGroups takes the server's word whether it knows groups. What waits for one that
// does is sent, or, if somebody waits for the answer, refused.
func (c *core) learnGroups(known bool) {
	if known && !c.groups {
		for _, l := range c.allLanes() {
			c.wake(l)
		}
	}
	if c.groups = known; known {
		return
	}
	waiting := c.waiting
	c.waiting = nil
	for _, r := range waiting {
		if !r.aboutGroup() {
			c.waiting = append(c.waiting, r)
			continue
		}
		r.err = errNoGroups
		c.do(action{kind: actionAnswer, request: r})
	}
}

// groupFrame takes the frames of groups.
func (c *core) groupFrame(f wire.Frame) error {
	switch f.Type {
	case wire.TypeCreated:
		m, err := wire.ParseCreated(f)
		if err == nil && m.Sequence == 0 {
			err = wire.ErrMalformed // there is no such message
		}
		if err == nil {
			c.created(&m)
		}
		return err
	case wire.TypeMemberList:
		l, err := wire.ParseMemberList(f)
		if err == nil {
			c.groupAnswered(l.Correlation, requestMembers, func(r *request) { r.list = l })
		}
		return err
	case wire.TypeGroupState:
		g, err := wire.ParseGroupState(f)
		if err == nil {
			c.groupAnswered(g.Correlation, requestGroup, func(r *request) { r.group = g })
		}
		return err
	default:
		n, err := wire.ParseCounts(f)
		if v := c.conversations[n.Ref]; err == nil && v != nil && v.based && !v.left {
			event := CountsEvent(n)
			c.feed.news(v, newsCounts, &event)
		}
		return err
	}
}

// created takes CREATED.
func (c *core) created(m *wire.Created) {
	f, ok := c.land(m.Correlation)
	switch {
	case !ok:
	case f.send.Ref != newGroup:
		c.lose(ErrProtocol, wire.CodeMalformed)
	default:
		c.accepted(f.send, m.Ref, m.Sequence, m.Time)
	}
}

// joined takes a SENT that answers no send: a JOIN, or nothing that is still asked.
func (c *core) joined(m *wire.Sent) {
	c.groupAnswered(m.Correlation, requestJoin, func(r *request) {
		r.sent = Sent{Ref: r.members.Ref, Sequence: m.Sequence, Time: m.Time}
	})
}

// groupAnswered gives a caller its answer.
func (c *core) groupAnswered(correlation uint64, kind requestKind, take func(r *request)) {
	r := c.answered(correlation)
	switch {
	case r == nil:
	case r.kind == kind:
		take(r)
		c.do(action{kind: actionAnswer, request: r})
	default:
		c.lose(ErrProtocol, wire.CodeMalformed)
	}
}
