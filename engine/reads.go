package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"parley/engine/delivery"
	"parley/engine/shard"
	"parley/raft"
	"parley/raft/link"
	"parley/storage"
	"parley/wire"
)

// A readOp is a question to one shard. Its leader answers, here or on another node.
type readOp uint8

// The questions. They are part of the cluster's version 1.
const (
	readPage    readOp = iota + 1 // user, HISTORY -> PAGE
	readUsers                     // USERS -> USER_LIST
	readNames                     // RESOLVE -> USER_LIST
	readListed                    // user, index -> index, the shards that the user's list names since
	readChanged                   // a changedQuery -> index, places, behind an introduction
	readStates                    // a statesQuery -> CONVERSATIONS frames
	readGroups                    // user -> nothing, behind an introduction
	readMembers                   // user, MEMBERS -> MEMBER_LIST
	readGroup                     // user, GROUP_INFO -> GROUP_STATE
)

// A question is one that another node asks, of a shard and with the stream that it has from
// there.
type question struct {
	from       uint32
	generation uint64
	op         readOp
	body       []byte
}

// errQuestion reports a question that cannot be read.
var errQuestion = errors.New("engine: bad question of another node")

// lead is the replica here of a shard, once it has shown that it may answer reads.
func (r *route) lead(ctx context.Context) (*replica, error) {
	l := r.local.Load()
	if l == nil || l.group == nil {
		return nil, raft.ErrNotLeader
	}
	return l, l.group.Authorize(ctx)
}

// ask has the node at a position answer a question.
func (n *Node) ask(ctx context.Context, r *route, p delivery.Position, op readOp, question []byte) ([]byte, error) {
	payload := append([]byte(nil), byte(op))
	payload = binary.AppendUvarint(payload, uint64(r.id))
	payload = binary.AppendUvarint(payload, p.Generation)
	payload = binary.AppendUvarint(payload, p.Number)
	return n.call(ctx, p.Node, callRead, append(payload, question...))
}

// serveRead answers a question of another node. Whether its stream is whole is looked at
// before anything that comes after it on the link.
func (n *Node) serveRead(ctx context.Context, from uint32, payload []byte, reply link.Reply) {
	if len(payload) == 0 {
		reply(nil, remoteError(errQuestion))
		return
	}
	op, t := readOp(payload[0]), tokenReader{src: payload[1:]}
	group, generation, number := t.uint(), t.uint(), t.uint()
	if t.bad || group >= uint64(len(n.routes)) {
		reply(nil, remoteError(errQuestion))
		return
	}
	r := n.routes[group]
	if outlet := r.outlet.Load(); outlet == nil || !outlet.Reached(from, generation, number) {
		reply(nil, remoteError(raft.ErrNotLeader))
		return
	}
	q := question{from: from, generation: generation, op: op, body: append([]byte(nil), t.src...)}
	ok := n.readers.answer(func() {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		answer, err := n.answerQuestion(ctx, r, &q)
		reply(answer, remoteError(err))
	})
	if !ok {
		reply(nil, remoteError(shard.ErrOverloaded))
	}
}

// answerQuestion answers at the leader.
func (n *Node) answerQuestion(ctx context.Context, r *route, q *question) ([]byte, error) {
	l, err := r.lead(ctx)
	if err != nil {
		return nil, err
	}
	t := tokenReader{src: q.body}
	switch q.op {
	case readPage:
		user := wire.ID(t.uint())
		h, err := parseOne(t.src, wire.TypeHistory, wire.ParseHistory)
		if err != nil {
			return nil, err
		}
		page, err := l.Page(user, h)
		return wire.AppendPage(nil, &page), err
	case readUsers:
		u, err := parseOne(q.body, wire.TypeUsers, wire.ParseUsers)
		if err != nil {
			return nil, err
		}
		list, err := l.usersOf(u.Queries)
		return wire.AppendUserList(nil, &wire.UserList{Users: list}), err
	case readNames:
		names, err := parseOne(q.body, wire.TypeResolve, wire.ParseResolve)
		if err != nil {
			return nil, err
		}
		list, err := l.usersNamed(names.Names)
		return wire.AppendUserList(nil, &wire.UserList{Users: list}), err
	case readListed:
		user, since := wire.ID(t.uint()), t.uint()
		shards, index, err := n.listedIn(ctx, l, user, since)
		return appendNumbers(binary.AppendUvarint(nil, index), shards), err
	case readStates:
		states, err := parseStatesQuery(q.body)
		if err != nil {
			return nil, err
		}
		list, err := l.states(ctx, &states)
		return appendStates(nil, list), err
	}
	return r.answerGroups(ctx, l, q)
}

// parseOne reads a payload that is one frame of a type.
func parseOne[T any](src []byte, kind wire.Type, parse func(wire.Frame) (T, error)) (v T, err error) {
	f, rest, err := wire.NextFrame(src)
	if err == nil && (len(rest) > 0 || f.Type != kind) {
		err = errQuestion
	}
	if err != nil {
		return v, err
	}
	return parse(f)
}

// page reads a page of a conversation's history.
func (n *Node) page(ctx context.Context, user wire.ID, h wire.History) (wire.Page, error) {
	r := n.routeOf(h.Ref.Conversation(user).Slot())
	p, err := r.position()
	if err != nil {
		return wire.Page{}, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return wire.Page{}, err
		}
		return l.Page(user, h)
	}
	answer, err := n.ask(ctx, r, p, readPage, wire.AppendHistory(binary.AppendUvarint(nil, uint64(user)), &h))
	if err != nil {
		return wire.Page{}, err
	}
	return parseOne(answer, wire.TypePage, wire.ParsePage)
}

// usersOf reads accounts of this shard that are newer than the versions asked with.
func (l *replica) usersOf(queries []wire.UserQuery) (list []wire.User, err error) {
	for _, q := range queries {
		u, ok, err := l.User(q.ID)
		if err != nil {
			return nil, err
		}
		if ok && u.Version > q.Version {
			list = append(list, publicUser(&u))
		}
	}
	return list, nil
}

// usersNamed reads accounts of this shard by their names.
func (l *replica) usersNamed(names []string) (list []wire.User, err error) {
	for _, name := range names {
		u, ok, err := l.UserByName(name)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, publicUser(&u))
		}
	}
	return list, nil
}

func publicUser(u *storage.User) wire.User {
	return wire.User{ID: u.ID, Version: u.Version, Name: u.Name}
}

// usersAt reads accounts of one shard.
func (n *Node) usersAt(ctx context.Context, r *route, queries []wire.UserQuery) ([]wire.User, error) {
	p, err := r.position()
	if err != nil {
		return nil, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return nil, err
		}
		return l.usersOf(queries)
	}
	answer, err := n.ask(ctx, r, p, readUsers, wire.AppendUsers(nil, &wire.Users{Queries: queries}))
	if err != nil {
		return nil, err
	}
	list, err := parseOne(answer, wire.TypeUserList, wire.ParseUserList)
	return list.Users, err
}

// namesAt finds accounts of one shard by their names.
func (n *Node) namesAt(ctx context.Context, r *route, names []string) ([]wire.User, error) {
	p, err := r.position()
	if err != nil {
		return nil, err
	}
	if p.Node == 0 {
		l, err := r.lead(ctx)
		if err != nil {
			return nil, err
		}
		return l.usersNamed(names)
	}
	answer, err := n.ask(ctx, r, p, readNames, wire.AppendResolve(nil, &wire.Resolve{Names: names}))
	if err != nil {
		return nil, err
	}
	list, err := parseOne(answer, wire.TypeUserList, wire.ParseUserList)
	return list.Users, err
}

// userNamed finds one account.
func (n *Node) userNamed(ctx context.Context, name string) (u wire.User, ok bool, err error) {
	list, err := n.namesAt(ctx, n.routeOf(wire.SlotOf([]byte(name))), []string{name})
	if err != nil || len(list) == 0 {
		return u, false, err
	}
	return list[0], true, nil
}

// usersExist are those of users who have an account.
func (n *Node) usersExist(ctx context.Context, users []wire.ID) (exist []wire.ID, err error) {
	for r, users := range byRoute(n, users, wire.ID.Slot) {
		queries := make([]wire.UserQuery, len(users))
		for i, user := range users {
			queries[i].ID = user
		}
		list, err := n.usersAt(ctx, r, queries)
		if err != nil {
			return nil, err
		}
		for i := range list {
			exist = append(exist, list[i].ID)
		}
	}
	return exist, nil
}

func appendNumbers(dst []byte, list []uint64) []byte {
	for _, x := range list {
		dst = binary.AppendUvarint(dst, x)
	}
	return dst
}

// parseNumbers reads numbers below a limit, as many as there are.
func parseNumbers(src []byte, limit uint64) (list []uint64, err error) {
	t := tokenReader{src: src}
	for len(t.src) > 0 {
		x := t.uint()
		if t.bad || x >= limit {
			return nil, errBadAnswer
		}
		list = append(list, x)
	}
	return list, nil
}

// A newUser is an account to be made, as it travels to the shard of its name.
type newUser struct {
	ID   wire.ID `json:"id"`
	Name string  `json:"name"`
	Hash string  `json:"hash"`
}

// Leaders change within a second or two: an operator's call waits for that.
const (
	leaderPatience = 5 * time.Second
	leaderPoll     = 50 * time.Millisecond
)

// createUser makes an account at the shard of its name, wherever it is led. Doing it again
// does no harm: an equal account counts as made.
func (n *Node) createUser(ctx context.Context, u newUser) error {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		err := n.createUserOnce(ctx, u)
		if err == nil || !errors.Is(err, shard.ErrNotLeader) && !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, link.ErrUnreachable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leaderPoll):
		}
	}
}

func (n *Node) createUserOnce(ctx context.Context, u newUser) error {
	r := n.routeOf(u.ID.Slot())
	if l := r.local.Load(); l != nil && l.Leading() {
		return l.CreateUser(ctx, u.ID, u.Name, u.Hash)
	}
	leader, ok := n.leaders.of(r.id)
	if !ok || leader == n.identity.Number {
		return shard.ErrNotLeader
	}
	payload, err := json.Marshal(&u)
	if err != nil {
		return err
	}
	_, err = n.call(ctx, leader, callUser, payload)
	return err
}

// serveUser makes an account for another node.
func (n *Node) serveUser(ctx context.Context, _ uint32, payload []byte) ([]byte, error) {
	var u newUser
	if err := json.Unmarshal(payload, &u); err != nil || !u.ID.Valid() {
		return nil, errQuestion
	}
	l := n.routeOf(u.ID.Slot()).local.Load()
	if l == nil {
		return nil, shard.ErrNotLeader
	}
	if n.diskFull.Load() {
		return nil, errDiskFull
	}
	return nil, l.CreateUser(ctx, u.ID, u.Name, u.Hash)
}
