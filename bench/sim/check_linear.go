package sim

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"parley/wire"
)

// linearTimeout bounds the search of one conversation, in real time. It takes 180 ms for
// 20,000 operations.
const linearTimeout = 20 * time.Second

// A linearOp is an operation on a conversation: a send that became a sequence, or a read
// that found a head.
type linearOp struct {
	read     bool
	sequence uint64
}

// linearModel is a conversation as one counter: a send takes its next value, a read gives
// the present one. Which message has which sequence is known from the end of the run.
var linearModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		head, op := state.(uint64), input.(linearOp)
		if op.read {
			return op.sequence == head, head
		}
		return op.sequence == head+1, head + 1
	},
}

// checkLinear: each operation takes effect at one moment between its call and its answer.
// One without an answer may take effect whenever after its call.
func checkLinear(h *History, report reporter) {
	bodies := h.bodies()
	operations := make(map[wire.Conversation][]porcupine.Operation)
	for _, f := range h.last() {
		if f.User != f.Conversation.A {
			continue
		}
		for _, e := range f.Entries {
			s := bodies[e.Body]
			if s == nil {
				continue
			}
			end := int64(s.Returned)
			if s.Outcome != Accepted {
				end = math.MaxInt64
			}
			operations[f.Conversation] = append(operations[f.Conversation], porcupine.Operation{
				Input: linearOp{sequence: e.Sequence}, Call: int64(s.Called), Return: end})
		}
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		if len(h.Finals) > 0 { // else the run ended before anybody could look
			operations[r.Conversation] = append(operations[r.Conversation], porcupine.Operation{
				Input: linearOp{read: true, sequence: r.Head}, Call: int64(r.Called), Return: int64(r.Returned)})
		}
	}
	for _, c := range h.conversations() {
		list := operations[c]
		for i := range list {
			list[i].ClientId = i
		}
		switch porcupine.CheckOperationsTimeout(linearModel, list, linearTimeout) {
		case porcupine.Illegal:
			report(c, "no order of its %d operations explains their answers", len(list))
		case porcupine.Unknown:
			report(c, "it could not be decided in %v whether its %d operations are linearizable", linearTimeout, len(list))
		}
	}
}
