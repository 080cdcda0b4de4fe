package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/fault"
)

// faults are the listeners that a drill has broken. While there is none, a connection that is taken costs
// one atomic load.
type faults struct {
	active atomic.Int32 // listeners that are broken

	mu       sync.Mutex
	switches map[string]*fault.Switch // by listener
}

// FaultStatus is a broken listener as the admin page shows it.
type FaultStatus struct {
	Listener string    `json:"listener"`
	Mode     string    `json:"mode"`
	Until    time.Time `json:"until"` // it ends by itself then
}

// ErrNoListener is wrapped by Break where no such listener is open.
var ErrNoListener = errors.New("no such listener is open")

// Break makes a listener, and the connections that it took, behave as mode says for d at most, in place of how a
// drill had them behave before. An empty name means all that are open now. Readiness stays as it is. The bounds of
// d are fault.CheckLife's.
func (p *Proxy) Break(listener string, mode fault.Mode, d time.Duration) error {
	if err := fault.CheckLife(d); err != nil {
		return err
	}
	names := p.open()
	if listener != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name != listener })
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: %q", ErrNoListener, listener)
	}
	var errs error
	for _, name := range names {
		errs = errors.Join(errs, p.switchOf(name).Set(mode, d))
	}
	return errs
}

// open names the listeners that have a socket, sorted.
func (p *Proxy) open() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, s := range p.sockets {
		names = append(names, *s.listener.Load())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Mend ends what Break began; a listener that is whole is left alone. An empty name means all.
func (p *Proxy) Mend(listener string) error {
	p.faults.mu.Lock()
	var broken []*fault.Switch
	for name, s := range p.faults.switches {
		if listener == "" || name == listener {
			broken = append(broken, s)
		}
	}
	p.faults.mu.Unlock()
	var errs error
	for _, s := range broken {
		errs = errors.Join(errs, s.Clear())
	}
	return errs
}

// Faults returns what is broken, by listener.
func (p *Proxy) Faults() []FaultStatus {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	out := []FaultStatus{}
	for _, name := range slices.Sorted(maps.Keys(p.faults.switches)) {
		if s := p.faults.switches[name]; s.Mode() != fault.None {
			out = append(out, FaultStatus{name, s.Mode().String(), s.Until()})
		}
	}
	return out
}

func (p *Proxy) switchOf(listener string) *fault.Switch {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	s := p.faults.switches[listener]
	if s == nil {
		s = fault.NewSwitch(func(m fault.Mode) error { return p.behave(listener, m) })
		if p.faults.switches == nil {
			p.faults.switches = map[string]*fault.Switch{}
		}
		p.faults.switches[listener] = s
	}
	return s
}

// behave has the sockets of a listener and its connections do as mode says.
func (p *Proxy) behave(listener string, mode fault.Mode) error {
	p.faults.recount()
	p.log.Warn("a drill changes a listener", "listener", listener, "fault", mode.String())
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs error
	for _, s := range p.sockets {
		if *s.listener.Load() == listener {
			errs = errors.Join(errs, s.behave(mode))
		}
	}
	for _, d := range p.live.all() {
		if d.at == listener {
			errs = errors.Join(errs, d.behave(mode))
		}
	}
	if errs != nil {
		p.log.Error("a drill could not change all of a listener", "listener", listener, "fault", mode.String(), "err", errs)
	}
	return errs
}

// recount counts the listeners that are broken.
func (f *faults) recount() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int32
	for _, s := range f.switches {
		if s.Mode() != fault.None {
			n++
		}
	}
	f.active.Store(n)
}

func (f *faults) mode(listener string) fault.Mode {
	if f.active.Load() == 0 {
		return fault.None
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.switches[listener]; s != nil {
		return s.Mode()
	}
	return fault.None
}

// took has a connection that was just taken, and that behave can see from now on, do as the others do.
func (f *faults) took(d *downstream) {
	fault.Join(func() fault.Mode { return f.mode(d.at) }, d.behave)
}

// behave has a bound socket do as mode says. The lock of the proxy is held.
func (s *socket) behave(mode fault.Mode) error {
	ln, ok := s.ln.(syscall.Conn)
	if !ok {
		return nil
	}
	var errs error
	if s.shut && mode != fault.Refuse {
		errs = fault.Reopen(ln)
		s.shut = false
	}
	switch mode {
	case fault.None:
		errs = errors.Join(errs, fault.Hear(ln))
	case fault.Drop:
		errs = errors.Join(errs, fault.Deafen(ln))
	case fault.Refuse:
		s.shut = true
		errs = errors.Join(errs, fault.Hear(ln), fault.Shut(ln))
	}
	return errs
}

// behave has the caller's side of a connection do as mode says.
func (d *downstream) behave(mode fault.Mode) error {
	return fault.Behave(d.raw, mode, func() error { d.abort(); return nil })
}
