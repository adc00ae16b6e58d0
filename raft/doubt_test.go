package raft

import (
	"testing"

	hraft "github.com/hashicorp/raft"
)

// slowToDoubt refuses pre-votes until it was asked often enough.
type slowToDoubt struct {
	Transport
	asked, grants int
}

func (s *slowToDoubt) RequestPreVote(_ hraft.ServerID, _ hraft.ServerAddress, _ *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	s.asked++
	resp.Granted = s.asked >= s.grants
	return nil
}

// Who doubts a leader asks those again who do not yet, while it doubts, and not for ever.
func TestAPreVoteIsAskedForAgainWhileTheLeaderIsDoubted(t *testing.T) {
	for name, test := range map[string]struct {
		grants, doubts, asked int
		granted               bool
	}{
		"at once":                   {1, 9, 1, true},
		"a little later":            {4, 9, 4, true},
		"the leader is heard again": {4, 2, 3, false},
		"nobody doubts":             {2, 0, 1, false},
		"never":                     {1000, 1000, doubtsMax, false},
	} {
		s, doubts := &slowToDoubt{grants: test.grants}, test.doubts
		c := &carrier{Transport: s, stalled: func() bool { return false }, yield: func() {}, doubt: func() bool { doubts--; return doubts >= 0 }}
		var resp hraft.RequestPreVoteResponse
		if err := c.RequestPreVote("b", "b", &hraft.RequestPreVoteRequest{}, &resp); err != nil || s.asked != test.asked || resp.Granted != test.granted {
			t.Errorf("%s: asked %d times, granted %v, %v", name, s.asked, resp.Granted, err)
		}
	}
}
