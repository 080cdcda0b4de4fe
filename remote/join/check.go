package join

import (
	"context"
	"fmt"
	"net/http"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Skew of two clocks: above warnSkew it is told, above mostSkew certificates
// would not be valid yet, and the link is refused. (A leaf is backdated 60 s.)
const (
	warnSkew = 10 * time.Second
	mostSkew = 60 * time.Second
)

// Finding is something that Check found wrong.
type Finding struct {
	Context string // the side that has to change
	Reason  string // CamelCase
	Message string // what is wrong
	Next    string // what to do
	Warning bool   // the link would work all the same
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s; %s", f.Context, f.Message, f.Next)
}

// facts is what Check learns of a side.
type facts struct {
	side    Side
	client  *kubernetes.Clientset
	uid     string
	domain  string
	bundle  trust.Bundle
	skew    time.Duration // of the API server's clock to ours; only where hasSkew
	hasSkew bool
}

// Check looks whether the sides can be linked, each with each, and changes
// nothing. No finding without Warning means that Link can be called.
func Check(ctx context.Context, sides []Side, opts Options) []Finding {
	opts = opts.filled()
	var out []Finding
	all := make([]facts, len(sides))
	for i, s := range sides {
		var found []Finding
		all[i], found = look(ctx, s, opts)
		out = append(out, found...)
	}
	for i := range all {
		for j := range all[:i] {
			out = append(out, compare(all[j], all[i])...)
		}
	}
	return out
}

func look(ctx context.Context, side Side, opts Options) (facts, []Finding) {
	f := facts{side: side}
	bad := func(reason, next, format string, args ...any) (facts, []Finding) {
		return f, []Finding{{Context: side.Context, Reason: reason, Next: next, Message: fmt.Sprintf(format, args...)}}
	}
	if err := side.check(); err != nil {
		return bad("InvalidSide", "name the cluster", "%v", err)
	}
	client, err := side.client()
	if err != nil {
		return bad("InvalidKubeconfig", "correct the kubeconfig", "%v", err)
	}
	ns, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return bad("Unreachable", "check the context and the network", "the API server does not answer: %v", err)
	}
	f.client, f.uid = client, string(ns.UID)
	mesh, err := client.CoreV1().ConfigMaps(opts.Namespace).Get(ctx, api.MeshConfigMapName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return bad("NotInstalled", "run isthmus install "+side.Context, "Isthmus is not installed")
	case err != nil:
		return bad("Unreadable", "use a context with more rights", "the installation cannot be read: %v", err)
	case mesh.Data["cluster"] != side.Cluster:
		return bad("WrongName", "use that name", "the cluster was installed as %q, not as %q", mesh.Data["cluster"], side.Cluster)
	}
	f.domain = mesh.Data["trustDomain"]
	f.skew, f.hasSkew = clockSkew(ctx, side.Config)
	found := f.lookAtBundle(ctx, opts)
	if _, err := side.internalServer(ctx, client); err != nil {
		found = append(found, Finding{Context: side.Context, Reason: "NoInternalAddress", Message: err.Error(), Next: "give the address with --server"})
	}
	return f, append(found, f.lookAtRights(ctx, opts)...)
}

func (f *facts) lookAtBundle(ctx context.Context, opts Options) []Finding {
	bad := func(err error) []Finding {
		return []Finding{{Context: f.side.Context, Reason: "NoRoot", Message: fmt.Sprintf("the trust bundle cannot be read: %v", err), Next: "run isthmus install " + f.side.Context + " again"}}
	}
	m, err := f.client.CoreV1().ConfigMaps(opts.Namespace).Get(ctx, api.BundleConfigMapName, metav1.GetOptions{})
	if err != nil {
		return bad(err)
	}
	domain, err := trust.ParseDomain(f.domain)
	if err != nil {
		return bad(err)
	}
	if f.bundle, err = trust.ParseBundle(domain, []byte(m.Data[api.BundleKey])); err != nil {
		return bad(err)
	}
	return nil
}

// lookAtRights asks the API server for each thing that Link does.
func (f *facts) lookAtRights(ctx context.Context, opts Options) []Finding {
	var out []Finding
	for _, want := range []authorizationv1.ResourceAttributes{
		{Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Verb: "patch"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings", Verb: "patch"},
		{Group: "rbac.authorization.k8s.io", Resource: "roles", Verb: "patch", Namespace: opts.Namespace},
		{Group: "rbac.authorization.k8s.io", Resource: "rolebindings", Verb: "patch", Namespace: opts.Namespace},
		{Resource: "serviceaccounts", Verb: "patch", Namespace: opts.Namespace},
		{Resource: "serviceaccounts", Subresource: "token", Verb: "create", Namespace: opts.Namespace},
		{Resource: "secrets", Verb: "patch", Namespace: opts.Namespace},
		{Group: "isthmus.dev", Resource: "clusterlinks", Verb: "patch", Namespace: opts.Namespace},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &want}}
		answer, err := f.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err == nil && !answer.Status.Allowed {
			out = append(out, Finding{Context: f.side.Context, Reason: "Forbidden", Next: "use a context with more rights",
				Message: fmt.Sprintf("not allowed: %s %s%s in %q", want.Verb, want.Resource, dotted(want.Group), want.Namespace)})
		}
	}
	return out
}

func dotted(group string) string {
	if group == "" {
		return ""
	}
	return "." + group
}

// compare looks at what two sides must share and must not.
func compare(a, b facts) []Finding {
	var out []Finding
	add := func(warning bool, reason, next, format string, args ...any) {
		out = append(out, Finding{Context: b.side.Context, Reason: reason, Next: next, Warning: warning, Message: fmt.Sprintf(format, args...)})
	}
	if a.uid != "" && a.uid == b.uid {
		add(false, "SameCluster", "name two different clusters", "contexts %s and %s are one cluster", a.side.Context, b.side.Context)
		return out
	}
	if a.side.Cluster == b.side.Cluster {
		add(false, "SameName", "install one of them under another name", "contexts %s and %s are both named %q", a.side.Context, b.side.Context, a.side.Cluster)
	}
	if a.domain != "" && b.domain != "" && a.domain != b.domain {
		add(false, "TrustDomainsDiffer", "install both with one --trust-domain", "trust domain %q of %s is not %q of %s", b.domain, b.side.Context, a.domain, a.side.Context)
	} else if !a.bundle.IsZero() && !b.bundle.IsZero() && !share(a.bundle, b.bundle) {
		add(false, "RootsDiffer", "install it with the root of "+a.side.Context, "no root is trusted by both %s and %s", a.side.Context, b.side.Context)
	}
	if a.hasSkew && b.hasSkew {
		if skew := (a.skew - b.skew).Abs(); skew > warnSkew {
			add(skew <= mostSkew, "ClocksDiffer", "set the clocks", "the clocks of %s and %s are %s apart", a.side.Context, b.side.Context, skew.Round(time.Second))
		}
	}
	return out
}

func share(a, b trust.Bundle) bool {
	for _, root := range a.Roots() {
		for _, other := range b.Roots() {
			if root.Equal(other) {
				return true
			}
		}
	}
	return false
}

// clockSkew compares the Date of an answer with the middle of its round trip.
func clockSkew(ctx context.Context, config *rest.Config) (time.Duration, bool) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, false
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return 0, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("version").String(), nil)
	if err != nil {
		return 0, false
	}
	before := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, false
	}
	resp.Body.Close()
	after := time.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	middle := before.Add(after.Sub(before) / 2)
	return date.Add(500 * time.Millisecond).Sub(middle), true // the header has whole seconds
}
