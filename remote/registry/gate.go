package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/fault"
)

// Fault is what a drill asks of the way to a cluster's API server.
type Fault struct {
	Mode    string        // refuse or drop; empty is none
	Life    time.Duration // it ends so long after it was first seen; see fault.CheckLife
	Renewed int64         // the same fault with another number lasts for another Life
}

// SetFaults says what drills ask, by cluster; those that are not named have no fault. Saying the same
// again changes nothing and prolongs nothing.
func (r *Registry) SetFaults(faults map[string]Fault) {
	r.mu.Lock()
	gates := map[string]*gate{}
	for name := range faults {
		gates[name] = r.gate(name)
	}
	for name, g := range r.gates {
		gates[name] = g
	}
	r.mu.Unlock()
	for name, g := range gates {
		if err := g.ask(faults[name]); err != nil {
			r.opts.Log.Warn("fault of a drill", "cluster", name, "err", err)
		}
	}
}

// gate returns the gate of a cluster. The lock is held.
func (r *Registry) gate(name string) *gate {
	g := r.gates[name]
	if g == nil {
		g = newGate(func(mode fault.Mode) { r.faulty(name, mode) })
		r.gates[name] = g
	}
	return g
}

// faulty notes in the status what a drill has in force.
func (r *Registry) faulty(name string, mode fault.Mode) {
	r.opts.Log.Warn("a drill changes the way to an API server", "cluster", name, "fault", mode.String())
	r.mu.Lock()
	m := r.members[name]
	r.mu.Unlock()
	if m != nil {
		m.update(func(st *Status) { st.Fault = mode.String() })
	}
}

// A gate is the way to one API server: all connections of all its clients pass it. While no drill
// wants anything, a dial costs an atomic load and an entry in a map, and reading and writing nothing.
type gate struct {
	*fault.Switch
	tell func(fault.Mode)

	asked sync.Mutex // serialises ask
	last  Fault      // guarded by asked

	mu      sync.Mutex
	open    map[*tracked]struct{}
	changed chan struct{} // closed when the mode changes
}

func newGate(tell func(fault.Mode)) *gate {
	g := &gate{tell: tell, open: map[*tracked]struct{}{}, changed: make(chan struct{})}
	g.Switch = fault.NewSwitch(g.behave)
	return g
}

// ask puts a fault in force that was not seen before.
func (g *gate) ask(f Fault) error {
	g.asked.Lock()
	defer g.asked.Unlock()
	if f == g.last {
		return nil
	}
	g.last = f
	if f == (Fault{}) {
		return g.Clear()
	}
	mode, err := fault.ParseMode(f.Mode)
	if err == nil {
		err = fault.CheckLife(f.Life)
	}
	if err != nil {
		return errors.Join(err, g.Clear())
	}
	return g.Set(mode, f.Life)
}

// behave has the open connections do as mode says.
func (g *gate) behave(mode fault.Mode) error {
	g.mu.Lock()
	close(g.changed)
	g.changed = make(chan struct{})
	open := make([]*tracked, 0, len(g.open))
	for t := range g.open {
		open = append(open, t)
	}
	g.mu.Unlock()
	var errs error
	for _, t := range open {
		errs = errors.Join(errs, t.behave(mode))
	}
	g.tell(mode)
	return errs
}

// pass returns nil when a connection may be dialled: at once, where there is no fault.
func (g *gate) pass(ctx context.Context) error {
	if g.Mode() == fault.None {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, os.ErrDeadlineExceeded)
	defer cancel()
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		switch g.Mode() {
		case fault.None:
			return nil
		case fault.Refuse:
			return fmt.Errorf("%w: %w", errDrill, syscall.ECONNREFUSED)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errDrill, context.Cause(ctx))
		}
	}
}

var errDrill = errors.New("a drill has it so")

// enter has a connection that was just dialled do as the others do.
func (g *gate) enter(t *tracked) {
	g.mu.Lock()
	g.open[t] = struct{}{}
	g.mu.Unlock()
	fault.Join(g.Mode, t.behave)
}

func (g *gate) leave(t *tracked) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, t)
}

// behave has a connection do as mode says.
func (t *tracked) behave(mode fault.Mode) error {
	return fault.Behave(t.Conn, mode, func() error {
		if tcp, ok := t.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return t.Close()
	})
}
