// Package release makes an installation a Helm release, as the program helm would make it from the same
// chart: `helm list`, `upgrade`, `history` and `rollback` go on with what it began, and the other way round.
package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/install"
)

// history is how many revisions are kept, as many as the program helm keeps.
const history = 10

// Options says what is to be released.
type Options struct {
	Config *rest.Config
	// Values are laid over those that the release has already. The authority is not one of the release's values: Apply
	// writes its Secret beside the release, so that neither upgrade nor rollback brings an old key back.
	Values install.Values
	Reset  bool // forget the values of earlier releases
	NoWait bool // for tests on clusters without nodes

	Progress install.Progress
}

// Report is what Apply has made.
type Report struct {
	Revision int `json:"revision"`
}

// PendingError says that the release is being changed by somebody else, or that he died on it.
type PendingError struct {
	Release string
	Since   time.Time
	Status  string // Helm's
}

func (e PendingError) Error() string {
	return fmt.Sprintf("release %s is %s since %s: somebody else changes it, or died on it", e.Release, e.Status, e.Since.Format(time.RFC3339))
}

// Apply makes the release, or its next revision, and waits until everything is rolled out. What an
// earlier version has applied without a release is taken over. The definitions must be there
// already (install.ApplyCRDs). Ctx bounds the wait.
func Apply(ctx context.Context, opts Options) (Report, error) {
	h, err := open(ctx, opts)
	if err != nil {
		return Report{}, err
	}
	last, values, objs, err := h.render()
	if err != nil {
		return Report{}, err
	}
	if err := h.prepare(ctx, objs, last == nil); err != nil {
		return Report{}, err
	}
	values.CA = nil
	if last == nil || last.Info.Status == common.StatusUninstalled {
		return h.install(ctx, values.Chart(), last != nil)
	}
	return h.upgrade(ctx, values.Chart())
}

// Try finds out whether the nodes of the cluster can get the images of the release that Apply would make, and changes nothing. An image
// that they cannot get is an install.ImageError.
func Try(ctx context.Context, opts Options) error {
	h, err := open(ctx, opts)
	if err != nil {
		return err
	}
	_, _, objs, err := h.render()
	if err != nil {
		return err
	}
	made, err := h.ensureNamespace(ctx, objs)
	if err != nil {
		return err
	}
	if err = install.TryImages(ctx, h.kube, objs, opts.Progress); err != nil && made {
		err = errors.Join(err, h.removeNamespace(context.WithoutCancel(ctx)))
	}
	return err
}

// Remove deletes the release of a revision with all its objects and its history, and nothing else. One that is not there
// is no error; found says whether it was.
func Remove(ctx context.Context, config *rest.Config, revision string) (found bool, err error) {
	h, err := open(ctx, Options{Config: config, Values: install.Values{Revision: revision}})
	if err != nil {
		return false, err
	}
	last, err := h.last()
	if err != nil || last == nil {
		return false, err
	}
	a := action.NewUninstall(h.config)
	a.WaitStrategy, a.IgnoreNotFound = kube.StatusWatcherStrategy, true
	if _, err := a.Run(h.name); err != nil {
		return true, fmt.Errorf("remove release %s: %w", h.name, err)
	}
	return true, nil
}

// Values returns what the release of a revision was given, without the authority's; nil where there is none.
func Values(ctx context.Context, config *rest.Config, revision string) (map[string]any, error) {
	h, err := open(ctx, Options{Config: config, Values: install.Values{Revision: revision}})
	if err != nil {
		return nil, err
	}
	last, err := h.last()
	if err != nil || last == nil {
		return nil, err
	}
	return remembered(last.Config), nil
}

// remembered is what of a release's values counts for the next one.
func remembered(values map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		if key != "ca" {
			out[key] = value
		}
	}
	return out
}

// handle is Helm in one cluster, for one action.
type handle struct {
	opts   Options
	name   string // the release's, the same in every cluster; it is kept in install.Namespace
	config *action.Configuration
	kube   kubernetes.Interface
}

var setManager sync.Once

func open(ctx context.Context, opts Options) (*handle, error) {
	// The owner of fields that the program helm writes. Helm has it in a variable, and would take our own program's name.
	setManager.Do(func() { kube.ManagedFieldsManager = install.HelmFieldOwner })
	g, err := newGetter(opts.Config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	clientset, err := kubernetes.NewForConfig(g.config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := config.Init(g, install.Namespace, "secret"); err != nil {
		return nil, fmt.Errorf("open helm's storage: %w", err)
	}
	config.Releases.MaxHistory = history
	config.KubeClient = client{Interface: config.KubeClient, kube: clientset, ctx: ctx, progress: opts.Progress, wait: !opts.NoWait}
	return &handle{opts: opts, name: install.ReleaseName(opts.Values.Revision), config: config, kube: clientset}, nil
}

// render returns the objects of the release that is to be made of the values, among them what earlier ones were given, and the last release,
// nil where there is none.
func (h *handle) render() (*releasev1.Release, install.Values, []*unstructured.Unstructured, error) {
	values := h.opts.Values
	last, err := h.last()
	if err != nil {
		return nil, values, nil, err
	}
	if last != nil && last.Info.Status.IsPending() {
		return nil, values, nil, PendingError{Release: h.name, Since: last.Info.LastDeployed, Status: last.Info.Status.String()}
	}
	if last != nil && !h.opts.Reset {
		values.Base = remembered(last.Config)
	}
	objs, err := install.Render(values)
	return last, values, objs, err
}

// last returns the newest revision; nil where there is none.
func (h *handle) last() (*releasev1.Release, error) {
	found, err := h.config.Releases.Last(h.name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", h.name, err)
	}
	r, ok := found.(*releasev1.Release)
	if !ok {
		return nil, fmt.Errorf("read release %s: it is a %T", h.name, found)
	}
	return r, nil
}

func (h *handle) install(ctx context.Context, values map[string]any, replace bool) (Report, error) {
	chart, err := install.Chart()
	if err != nil {
		return Report{}, err
	}
	a := action.NewInstall(h.config)
	a.ReleaseName, a.Namespace = h.name, install.Namespace // prepare has made it
	a.SkipCRDs, a.Replace = true, replace
	a.TakeOwnership, a.ForceConflicts = true, true
	a.WaitStrategy = kube.StatusWatcherStrategy                                // ours, see client
	return report(a.RunWithContext(context.WithoutCancel(ctx), chart, values)) // the waits end with ctx, and say what was missing
}

func (h *handle) upgrade(ctx context.Context, values map[string]any) (Report, error) {
	chart, err := install.Chart()
	if err != nil {
		return Report{}, err
	}
	a := action.NewUpgrade(h.config)
	a.Namespace, a.ResetValues, a.MaxHistory = install.Namespace, true, history
	a.SkipCRDs = true
	a.TakeOwnership, a.ForceConflicts, a.ServerSideApply = true, true, "true"
	a.WaitStrategy = kube.StatusWatcherStrategy // ours, see client
	return report(a.RunWithContext(context.WithoutCancel(ctx), h.name, chart, values))
}

func report(made any, err error) (Report, error) {
	if err != nil {
		return Report{}, err
	}
	r, ok := made.(*releasev1.Release)
	if !ok {
		return Report{}, fmt.Errorf("helm has made a %T", made)
	}
	return Report{Revision: r.Version}, nil
}
