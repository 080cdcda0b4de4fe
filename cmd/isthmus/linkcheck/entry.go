package linkcheck

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// guardName is that of the policy, and of its binding, by which isthmusd alone writes ServiceImports. (chart)
const guardName = "isthmus-imports"

// entrySide is what a cluster showed of what pods without a sidecar need.
type entrySide struct {
	policy, guard error // nil: it is there
	used          precheck.Used
	usedErr       error
}

func lookAtEntry(ctx context.Context, c *cluster.Cluster) entrySide {
	var s entrySide
	_, s.policy = c.Kube.NetworkingV1().NetworkPolicies(api.SystemNamespace).Get(ctx, api.EntryName, metav1.GetOptions{})
	admission := c.Kube.AdmissionregistrationV1()
	_, err1 := admission.ValidatingAdmissionPolicies().Get(ctx, guardName, metav1.GetOptions{})
	_, err2 := admission.ValidatingAdmissionPolicyBindings().Get(ctx, guardName, metav1.GetOptions{})
	s.guard = errors.Join(err1, err2)
	s.used, s.usedErr = precheck.Addresses(ctx, c)
	return s
}

// entryFindings says whether a pod without a sidecar can reach other networks.
func (s *side) entryFindings() []precheck.Finding {
	where, e := s.cluster.Context, s.status.Entry
	again := "isthmus install " + where
	var out []precheck.Finding
	if e.Want == 0 {
		out = append(out, warning(where, "entry gateway", again+" --set entry.enabled=true", "none: pods without a sidecar reach no other network"))
	} else {
		out = append(out,
			finding(where, "entry gateway", e.OK(), "kubectl --context "+where+" -n "+api.SystemNamespace+" describe pods -l app="+api.EntryName, "%d of %d ready", e.Ready, e.Want),
			present(where, "entry policy", "NetworkPolicy "+api.EntryName, again, s.entry.policy),
			entryPorts(where, e.Ports))
	}
	switch {
	case s.entry.usedErr != nil:
		out = append(out, warning(where, "synthetic range", "use a context that may list nodes, pods and services", "cannot be read: %v", s.entry.usedErr))
	case e.Synthetic.Range != "":
		out = append(out, precheck.Synthetic(where, e.Synthetic.Range, s.entry.used))
	}
	return append(out, present(where, "import guard", "ValidatingAdmissionPolicy "+guardName, again+" (Kubernetes 1.30 or later); without it others can write ServiceImports", s.entry.guard))
}

// entryPorts says how much is left of the range. It cannot run into the mesh's own ports.
func entryPorts(where string, ports meshstatus.Use) precheck.Finding {
	next := "isthmus install " + where + " --set entry.ports=FIRST-LAST, larger; what is in use must stay within"
	switch {
	case ports.Size == 0:
		return warning(where, "entry ports", "isthmus install "+where, "isthmusd does not say from which range")
	case ports.Free() <= 0:
		return finding(where, "entry ports", false, next, "none of %s is free: %d used, %d resting after use", ports.Range, ports.Used, ports.Resting)
	case ports.Free() < ports.Size/10:
		return warning(where, "entry ports", next, "only %d of %s are free: %d used, %d resting after use", ports.Free(), ports.Range, ports.Used, ports.Resting)
	}
	return finding(where, "entry ports", true, "", "%d of %s used, %d free", ports.Used, ports.Range, ports.Free())
}

// present is the finding about an object that should be there; without it things work, but are less safe.
func present(where, what, object, next string, err error) precheck.Finding {
	switch {
	case err == nil:
		return finding(where, what, true, "", "%s is there", object)
	case apierrors.IsNotFound(err) || notFoundWithin(err):
		return warning(where, what, next, "no %s", object)
	}
	return warning(where, what, "use a context that may read it", "%s cannot be read: %v", object, err)
}

// notFoundWithin reports whether one of joined errors says that the object is not there.
func notFoundWithin(err error) bool {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return false
	}
	for _, e := range joined.Unwrap() {
		if apierrors.IsNotFound(e) {
			return true
		}
	}
	return false
}

func warning(where, what, next, format string, args ...any) precheck.Finding {
	return precheck.Finding{Where: where, What: what, State: precheck.Warn, Message: fmt.Sprintf(format, args...), Next: next}
}
