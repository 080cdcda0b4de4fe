package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/install/release"
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

func usageErrorf(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

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
	if h := hint(err); h != "" {
		return err.Error() + "\nnext: " + h
	}
	return err.Error()
}

// hint returns what the user can do about err, or "".
func hint(err error) string {
	if h, ok := errors.AsType[hintError](err); ok {
		return h.hint
	}
	if c, ok := errors.AsType[clusterset.CheckError](err); ok {
		return c.Finding.Next
	}
	if n, ok := errors.AsType[clusterset.NoAddressError](err); ok {
		return n.Next()
	}
	if image, ok := errors.AsType[install.ImageError](err); ok {
		return "see that " + image.Image + " exists and that the nodes may pull it: --hub, --tag. What was there before serves on; the same command goes on from here"
	}
	if pending, ok := errors.AsType[release.PendingError](err); ok {
		return "wait for whoever changes it; if he is dead: helm --namespace " + install.Namespace + " rollback " + pending.Release + ", or delete the newest Secret sh.helm.release.v1." + pending.Release + ".vN there"
	}
	switch {
	case errors.Is(err, cluster.ErrNoContext):
		return "kubectl config get-contexts lists them; --kubeconfig names another file (isthmus sandbox kubeconfig)"
	case errors.Is(err, clusterset.ErrOtherRoot):
		return "name the right root by --clusterset or --root-cert and --root-key; or remove the cluster's first: isthmus uninstall CONTEXT"
	case errors.Is(err, clusterset.ErrNotInstalled):
		return "isthmus install CONTEXT..."
	case errors.Is(err, clusterset.ErrRefused):
		return "isthmus link again writes the secret anew; the control plane's log has the details"
	case errors.Is(err, clusterset.ErrName):
		return "give each cluster a name: --cluster-name CONTEXT=NAME; an installed cluster keeps the one it has"
	case apierrors.IsForbidden(err):
		return "isthmus precheck CONTEXT lists the rights that are missing"
	case apierrors.IsUnauthorized(err):
		return "the kubeconfig's credentials are not accepted: renew them"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH):
		return "the API server cannot be reached: is the cluster up, and is it the right context? kubectl --context CONTEXT version"
	case errors.Is(err, context.DeadlineExceeded):
		return "isthmus check tells what is not well; the same command may be run again"
	}
	return ""
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
