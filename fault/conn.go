package fault

import (
	"errors"
	"net"
	"syscall"
)

// Behave has an open connection do as mode says; reset is called for Refuse. One without a socket, or that has ended
// meanwhile, is left alone.
func Behave(c net.Conn, mode Mode, reset func() error) error {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	var err error
	switch mode {
	case None:
		err = Hear(raw)
	case Drop:
		err = Deafen(raw)
	case Refuse:
		err = reset()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Join has something new do as the others do, by behave. Whoever changes the mode must know it already: the mode may
// change meanwhile, and the last word is the newest one's.
func Join(mode func() Mode, behave func(Mode) error) {
	for was := None; ; {
		now := mode()
		if now == was {
			return
		}
		_ = behave(now) // what cannot be broken is used
		was = now
	}
}
