package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// NoteName is the Lease in the system namespace that a drill holds, in each cluster that it
// concerns, from before its first change until the last is undone.
const NoteName = "isthmus-drill"

// annotationNote holds the Note, as JSON, on the Lease.
const annotationNote = "isthmus.dev/drill"

// Alive is for how long after its last sign of life a drill counts as running.
const Alive = 30 * time.Second

// beat is how often a drill gives a sign of life.
const beat = 5 * time.Second

// ErrRunning is wrapped when another drill runs, or one that ended badly was not restored.
var ErrRunning = errors.New("another drill")

// ErrAbandoned is wrapped, beside ErrRunning, where that drill gives no sign of life.
var ErrAbandoned = errors.New("was not restored")

// Note says what a drill changes, for those who come after it.
type Note struct {
	ID       string    `json:"id"`    // differs for each drill
	Owner    string    `json:"owner"` // who started it, and where
	Since    time.Time `json:"since"`
	Scenario string    `json:"scenario"`
	Service  string    `json:"service"`
	From     string    `json:"from"`     // context of the cluster that the load comes from
	Contexts []string  `json:"contexts"` // of all clusters that hold the note
	Changes  []Change  `json:"changes"`

	Seen time.Time `json:"-"` // its last sign of life
}

// Running reports whether the drill gave a sign of life lately.
func (n Note) Running(now time.Time) bool { return now.Sub(n.Seen) < Alive }

func (n Note) String() string {
	return fmt.Sprintf("%s on %s by %s since %s", n.Scenario, n.Service, n.Owner, n.Since.UTC().Format(time.RFC3339))
}

// ReadNote returns the note in c; nil where there is none.
func ReadNote(ctx context.Context, c *cluster.Cluster) (*Note, error) {
	l, err := c.Kube.CoordinationV1().Leases(api.SystemNamespace).Get(ctx, NoteName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of a drill in %s: %w", c.Context, err)
	}
	var n Note
	if err := json.Unmarshal([]byte(l.Annotations[annotationNote]), &n); err != nil {
		return nil, fmt.Errorf("read the note of a drill in %s (lease %s/%s): %w", c.Context, api.SystemNamespace, NoteName, err)
	}
	if l.Spec.RenewTime != nil {
		n.Seen = l.Spec.RenewTime.Time
	}
	return &n, nil
}

// A Hold keeps the note of a drill.
type Hold struct {
	note     Note
	clusters []*cluster.Cluster
}

// Take notes a drill in all clusters, in their order. The error wraps ErrRunning where one has a
// note already; then none is left of this.
func Take(ctx context.Context, note Note, clusters []*cluster.Cluster) (*Hold, error) {
	h := &Hold{note: note}
	for _, c := range clusters {
		if err := h.take(ctx, c); err != nil {
			return nil, errors.Join(err, h.Release(context.WithoutCancel(ctx)))
		}
		h.clusters = append(h.clusters, c)
	}
	return h, nil
}

func (h *Hold) take(ctx context.Context, c *cluster.Cluster) error {
	data, err := json.Marshal(h.note)
	if err != nil {
		return err
	}
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: NoteName, Labels: map[string]string{api.LabelManagedBy: "isthmus-cli"}, Annotations: map[string]string{annotationNote: string(data)}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &h.note.Owner, AcquireTime: &now, RenewTime: &now, LeaseDurationSeconds: new(int32(Alive / time.Second))},
	}
	_, err = c.Kube.CoordinationV1().Leases(api.SystemNamespace).Create(ctx, lease, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return Refuse(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("note the drill in %s: %w", c.Context, err)
	}
	return nil
}

// Refuse returns an error that wraps ErrRunning where c has the note of a drill.
func Refuse(ctx context.Context, c *cluster.Cluster) error {
	n, err := ReadNote(ctx, c)
	switch {
	case err != nil:
		return err
	case n == nil:
		return nil
	case n.Running(time.Now()):
		return fmt.Errorf("%w runs, noted in %s: %s", ErrRunning, c.Context, n)
	}
	return fmt.Errorf("%w %w, noted in %s: %s; its last sign of life was at %s", ErrRunning, ErrAbandoned, c.Context, n, n.Seen.UTC().Format(time.RFC3339))
}

// Keep gives signs of life until ctx ends. That one could not be given is no error: the
// drill goes on.
func (h *Hold) Keep(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var wg sync.WaitGroup // one cluster that hangs is not to make the others think that we crashed
		for _, c := range h.clusters {
			wg.Go(func() { h.renew(ctx, c) })
		}
		wg.Wait()
	}
}

func (h *Hold) renew(ctx context.Context, c *cluster.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, beat)
	defer cancel()
	leases := c.Kube.CoordinationV1().Leases(api.SystemNamespace)
	l, err := leases.Get(ctx, NoteName, metav1.GetOptions{})
	if err != nil {
		return
	}
	l.Spec.RenewTime = new(metav1.NowMicro())
	_, _ = leases.Update(ctx, l, metav1.UpdateOptions{}) // the next beat is soon
}

// Release takes the note away. What was taken away is no error.
func (h *Hold) Release(ctx context.Context) error { return Forget(ctx, h.note, h.clusters) }

// Forget takes note away from clusters, and leaves those of other drills.
func Forget(ctx context.Context, note Note, clusters []*cluster.Cluster) error {
	var errs error
	for _, c := range clusters {
		there, err := ReadNote(ctx, c)
		if err == nil && there != nil && there.ID == note.ID {
			err = c.Kube.CoordinationV1().Leases(api.SystemNamespace).Delete(ctx, NoteName, metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			errs = errors.Join(errs, fmt.Errorf("take the note of the drill from %s: %w", c.Context, err))
		}
	}
	return errs
}
