package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// exitStatus returns the exit code that err carries.
func exitStatus(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return strconv.Itoa(e.ExitCode())
	}
	return err.Error()
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		nil:                                   exitOK,
		errors.New("x"):                       exitFailed,
		usageErrorf("x"):                      exitUsage,
		errVerdict:                            exitVerdict,
		fmt.Errorf("a: %w", context.Canceled): exitStopped,
		withHint(usageErrorf("x"), "y"):       exitUsage,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

// Every error that a user meets often says what to do next.
func TestHints(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("no"))
	for err, want := range map[error]string{
		fmt.Errorf("a: %w", cluster.ErrNoContext):                                                      "get-contexts",
		fmt.Errorf("a: %w", clusterset.ErrOtherRoot):                                                   "--root-cert",
		fmt.Errorf("a: %w", clusterset.ErrName):                                                        "--cluster-name",
		fmt.Errorf("a: %w", clusterset.ErrNotInstalled):                                                "isthmus install",
		fmt.Errorf("a: %w", forbidden):                                                                 "precheck",
		fmt.Errorf("a: %w", clusterset.NoAddressError{Context: "east", Err: context.DeadlineExceeded}): "east --set gateway.serviceType=NodePort",
		withHint(errors.New("a"), "do that"):                                                           "do that",
	} {
		if got := describe(err); !strings.Contains(got, "\nnext: ") || !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if got := describe(errors.New("a")); got != "a" {
		t.Errorf("%q", got)
	}
}
