package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// A Change is one thing that a drill changes, with all that is needed to undo it. It is noted in
// the cluster before it is made, so that whoever comes later can undo it.
type Change struct {
	Kind      string `json:"kind"`              // one of the kinds below
	Context   string `json:"context,omitempty"` // kubeconfig context of the cluster that is changed
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Before and To are numbers of replicas, for KindScale.
	Before int32 `json:"before,omitempty"`
	To     int32 `json:"to,omitempty"`
	// Cut is for KindCut.
	Cut *Cut `json:"cut,omitempty"`
	// Relay is for KindSlow.
	Relay *Relay `json:"relay,omitempty"`
	// Fault is for KindGateway and KindAPI.
	Fault *Fault `json:"fault,omitempty"`
}

// Kinds of changes.
const (
	KindScale  = "scale"  // a Deployment has other replicas
	KindClient = "client" // the Deployment that sends the load; made by StartClient
	KindCut    = "cut"    // the network of a sandbox
	KindSlow   = "slow"   // a relay before the east-west gateway of a cluster

	KindGateway = "gateway" // the east-west gateway of Context breaks its own listener
	KindAPI     = "api"     // the control plane of Context does without the API server that link Name leads to
)

// Cut is a cut of a sandbox's network: see the package sandbox for the words.
type Cut struct {
	Dir  string `json:"dir"` // of the sandbox
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	Mode string `json:"mode"`
	What string `json:"what"`
}

// Hands reach what changes are made on.
type Hands struct {
	Open func(context string) (*cluster.Cluster, error)
	Cut  func(ctx context.Context, c Cut) error      // nil where there is no sandbox
	Heal func(ctx context.Context, dir string) error // undoes all cuts of that sandbox; one that is gone is no error
}

// String says what the change does.
func (c Change) String() string {
	switch c.Kind {
	case KindScale:
		return fmt.Sprintf("scale %s/%s in %s from %d to %d", c.Namespace, c.Name, c.Context, c.Before, c.To)
	case KindClient:
		return fmt.Sprintf("run a client as %s/%s in %s", c.Namespace, c.Name, c.Context)
	case KindCut:
		from := c.Cut.From
		if from == "" {
			from = "all other clusters"
		}
		what := map[string]string{"gateway": "the east-west gateway of " + c.Cut.To, "api": "the API server of " + c.Cut.To, "all": "all of " + c.Cut.To}[c.Cut.What]
		return fmt.Sprintf("cut %s off from %s (%s)", what, from, c.Cut.Mode)
	case KindSlow:
		return c.Relay.String()
	case KindGateway:
		return fmt.Sprintf("have the east-west gateway of %s %s, by its own sockets", c.Fault.Cluster, does[c.Fault.Mode])
	case KindAPI:
		return fmt.Sprintf("have the control plane of %s do as if the API server of %s %s", c.Context, c.Fault.Cluster, did[c.Fault.Mode])
	}
	return "change of unknown kind " + c.Kind
}

// Prepare gets ready what the change needs and breaks nothing. It may be done twice; Undo
// takes it away, too.
func (c Change) Prepare(ctx context.Context, h Hands) error {
	if c.Kind == KindSlow {
		return c.Relay.start(ctx, h, c.Context)
	}
	return nil
}

// Make makes the change, which is prepared.
func (c Change) Make(ctx context.Context, h Hands) error {
	switch c.Kind {
	case KindScale:
		return c.scale(ctx, h, c.To)
	case KindCut:
		if h.Cut == nil {
			return errors.New("there is no sandbox whose network could be cut")
		}
		return h.Cut(ctx, *c.Cut)
	case KindSlow:
		return c.Relay.put(ctx, h, c.Context)
	case KindGateway:
		return c.breakGateway(ctx, h)
	case KindAPI:
		return c.breakAPI(ctx, h)
	case KindClient:
		return nil // StartClient does
	}
	return fmt.Errorf("a change of unknown kind %q", c.Kind)
}

// Undo undoes the change; one that was undone, or never made, is left alone.
func (c Change) Undo(ctx context.Context, h Hands) error {
	switch c.Kind {
	case KindScale:
		return c.scaleBack(ctx, h)
	case KindClient:
		return c.removeClient(ctx, h)
	case KindCut:
		return h.Heal(ctx, c.Cut.Dir)
	case KindSlow:
		return c.Relay.remove(ctx, h, c.Context)
	case KindGateway:
		return c.mendGateway(ctx, h)
	case KindAPI:
		return c.mendAPI(ctx, h)
	}
	return fmt.Errorf("a change of unknown kind %q: a newer isthmus made it", c.Kind)
}

func (c Change) scale(ctx context.Context, h Hands, replicas int32) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	_, err = in.Scale(ctx, c.Namespace, c.Name, replicas)
	return err
}

// scaleBack leaves alone what somebody else has scaled since, and what is gone.
func (c Change) scaleBack(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	now, err := in.Kube.AppsV1().Deployments(c.Namespace).GetScale(ctx, c.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read the scale of %s/%s in %s: %w", c.Namespace, c.Name, c.Context, err)
	case now.Spec.Replicas != c.To:
		return nil
	}
	return c.scale(ctx, h, c.Before)
}

func (c Change) removeClient(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	return in.Delete(ctx, c.Namespace, clientDeployment(""))
}

// Make makes changes in their order.
func Make(ctx context.Context, h Hands, changes []Change) error {
	for _, c := range changes {
		if err := c.Make(ctx, h); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	return nil
}

// Undo undoes changes, the last first, all of them whatever becomes of each.
func Undo(ctx context.Context, h Hands, changes []Change) error {
	var errs error
	for _, c := range slices.Backward(changes) {
		if err := c.Undo(ctx, h); err != nil {
			errs = errors.Join(errs, fmt.Errorf("undo %q: %w", c, err))
		}
	}
	return errs
}
