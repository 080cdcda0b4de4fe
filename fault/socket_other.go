//go:build !linux

package fault

import (
	"errors"
	"syscall"
)

// Deafen needs Linux, as do the others.
func Deafen(syscall.Conn) error { return errors.ErrUnsupported }

// Hear does nothing: nothing is deaf.
func Hear(syscall.Conn) error { return nil }

// Shut needs Linux.
func Shut(syscall.Conn) error { return errors.ErrUnsupported }

// Reopen does nothing: nothing is shut.
func Reopen(syscall.Conn) error { return nil }
