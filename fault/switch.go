package fault

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A Switch holds the fault that is in force, and ends it when its life is over. Asking for
// the mode takes one atomic load.
type Switch struct {
	apply func(Mode) error
	mode  atomic.Int32

	mu    sync.Mutex // held while apply runs
	until time.Time
	timer *time.Timer
	round int // of the timer: one that is late must not end the next fault
}

// NewSwitch returns a switch that is off. apply is called after each change of the mode, None included,
// and never twice at the same time; it must not call the switch but for Mode.
func NewSwitch(apply func(Mode) error) *Switch { return &Switch{apply: apply} }

// Mode returns what is in force.
func (s *Switch) Mode() Mode { return Mode(s.mode.Load()) }

// Until returns when the fault ends if nobody renews it; zero where there is none.
func (s *Switch) Until() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until
}

// Set puts mode in force for d from now, in place of what was. With an error, which is that of apply,
// nothing is in force.
func (s *Switch) Set(mode Mode, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	err := s.change(mode)
	if err != nil && mode != None {
		return errors.Join(err, s.change(None))
	}
	if mode != None {
		round := s.round
		s.until = time.Now().Add(d)
		s.timer = time.AfterFunc(d, func() { s.expire(round) })
	}
	return err
}

// Clear ends the fault; it may be called where there is none.
func (s *Switch) Clear() error { return s.Set(None, 0) }

func (s *Switch) expire(round int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if round == s.round {
		s.stop()
		_ = s.change(None) // apply tells of it
	}
}

// stop forgets the timer. The lock is held, as in change.
func (s *Switch) stop() {
	s.round++
	s.until = time.Time{}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *Switch) change(mode Mode) error {
	if Mode(s.mode.Swap(int32(mode))) == mode {
		return nil
	}
	return s.apply(mode)
}
