package main

import (
	"context"
	"errors"
)

// Exit codes of every command.
const (
	exitOK      = 0
	exitFailed  = 1   // it could not be done
	exitUsage   = 2   // the command line is wrong
	exitVerdict = 3   // it was done, and what was looked at is not well
	exitStopped = 130 // interrupted
)

// usageError is a mistake on the command line.
type usageError struct{ error }

// errVerdict says that the command did its work and printed a verdict that is
// not good; nothing more is to be printed.
var errVerdict = errors.New("verdict: not passed")

// hintError carries what the user can do next.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// withHint adds the next step to err; a nil err stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return hintError{err, hint}
}

func isSilent(err error) bool { return errors.Is(err, errVerdict) }

// describe returns the message for err with the next step on a line of its own.
func describe(err error) string {
	if h, ok := errors.AsType[hintError](err); ok {
		return err.Error() + "\nnext: " + h.hint
	}
	return err.Error()
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errVerdict):
		return exitVerdict
	case errors.Is(err, context.Canceled):
		return exitStopped
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}
