package clusterset

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// Errors about clusters that cannot be linked as they are.
var (
	ErrNotInstalled = errors.New("the mesh is not installed")
	ErrRefused      = errors.New("the link is refused")
)

// LinkOptions says which clusters read which.
type LinkOptions struct {
	Clusters     []*cluster.Cluster
	OneWay       bool              // only the first reads the others
	Servers      map[string]string // by context: the API server's address that works from inside other clusters
	AllowServers []string          // hosts that may be loopback; for tests
	Gone         []string          // of Unlink: names of clusters that cannot be reached any more
	Progress     func(step string) // may be nil; called from one goroutine at a time
}

func (o LinkOptions) say(step string) {
	if o.Progress != nil {
		o.Progress(step)
	}
}

// Linked is one direction of a link, proved.
type Linked struct {
	From    string             `json:"from"` // reads
	To      string             `json:"to"`   // is read
	State   v1alpha1.LinkState `json:"state,omitempty"`
	Server  string             `json:"server,omitempty"`
	Message string             `json:"message,omitempty"`
}

// direction is from reading to.
type direction struct{ from, to *member }

// member is a cluster with what an installation says of it.
type member struct {
	cluster *cluster.Cluster // nil where nothing is to be done any more
	side    join.Side
	set     string // the clusterset's name
	primary string // of a remote: the cluster whose control plane reads for it
}

// Link checks all clusters, writes every direction, and waits until the control
// planes say that each link works: the API server answers, everything is listed, and
// a probe of the gateway ends in a handshake with the right identity.
func Link(ctx context.Context, opts LinkOptions) ([]Linked, error) {
	members, err := findMembers(ctx, opts)
	if err != nil {
		return nil, err
	}
	directions := pairs(members, opts.OneWay)
	for _, d := range directions {
		served, err := d.served(ctx, members, directions)
		if err != nil {
			return nil, err
		}
		if served {
			continue
		}
		opts.say(fmt.Sprintf("let %s read %s", d.from.side.Cluster, d.to.side.Cluster))
		if err := join.Link(ctx, d.from.side, d.to.side, join.Options{AllowServers: opts.AllowServers}); err != nil {
			return nil, fmt.Errorf("let %s read %s: %w", d.from.side.Cluster, d.to.side.Cluster, err)
		}
	}
	for _, m := range members {
		if err := enter(ctx, m); err != nil {
			return nil, err
		}
	}
	opts.say("wait until each link is proved")
	out := make([]Linked, len(directions))
	group, ctx := errgroup.WithContext(ctx)
	for i, d := range directions {
		group.Go(func() (err error) {
			out[i], err = d.prove(ctx)
			return err
		})
	}
	return out, group.Wait()
}

// Unlink ends every direction between the clusters, those that are gone included. What is
// not there is no error, nor is a cluster without the mesh: others may read it still.
func Unlink(ctx context.Context, opts LinkOptions) ([]Linked, error) {
	var members []*member
	for _, c := range opts.Clusters {
		m, err := findMember(ctx, c, opts)
		if errors.Is(err, ErrNotInstalled) {
			m, err = &member{side: join.Side{Context: c.Context, Cluster: c.Context}}, nil
		}
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	for _, name := range opts.Gone {
		members = append(members, &member{side: join.Side{Context: name, Cluster: name}})
	}
	var out []Linked
	for _, d := range pairs(members, opts.OneWay) {
		if d.from.cluster == nil && d.to.cluster == nil || d.to.primary == d.from.side.Cluster || d.from.primary != "" {
			continue // what serves a remote ends with the remote
		}
		if err := join.Unlink(ctx, d.from.side, d.to.side, join.Options{}); err != nil {
			return nil, fmt.Errorf("end that %s reads %s: %w", d.from.side.Cluster, d.to.side.Cluster, err)
		}
		out = append(out, Linked{From: d.from.side.Cluster, To: d.to.side.Cluster})
	}
	for _, m := range members {
		if m.cluster == nil {
			continue
		}
		if err := leave(ctx, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func pairs(members []*member, oneWay bool) []direction {
	var out []direction
	for i, from := range members {
		for j, to := range members {
			if i != j && (!oneWay || i == 0) {
				out = append(out, direction{from, to})
			}
		}
	}
	return out
}

// findMembers reads all clusters and refuses those that cannot be linked.
func findMembers(ctx context.Context, opts LinkOptions) ([]*member, error) {
	var members []*member
	var sides []join.Side
	for _, c := range opts.Clusters {
		m, err := findMember(ctx, c, opts)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
		sides = append(sides, m.side)
	}
	for _, f := range join.Check(ctx, sides, join.Options{AllowServers: opts.AllowServers}) {
		if !f.Warning {
			return nil, CheckError{Finding: f}
		}
		opts.say("warning: " + f.String())
	}
	return members, checkIdentities(ctx, members)
}

// CheckError is the first reason why clusters cannot be linked, or installed. Nothing was
// changed.
type CheckError struct {
	Finding join.Finding
	What    string // empty means linked
}

func (e CheckError) Error() string {
	return fmt.Sprintf("context %s cannot be %s: %s", e.Finding.Context, cmp.Or(e.What, "linked"), e.Finding.Message)
}

func findMember(ctx context.Context, c *cluster.Cluster, opts LinkOptions) (*member, error) {
	installed, err := Find(ctx, c)
	if err != nil {
		return nil, err
	}
	if installed == nil {
		return nil, fmt.Errorf("context %s: %w", c.Context, ErrNotInstalled)
	}
	m := &member{cluster: c, side: side(c, installed.Cluster, installed.Network), set: installed.Clusterset, primary: installed.Primary}
	if given := opts.Servers[c.Context]; given != "" {
		m.side.Server = given
	}
	return m, nil
}

// oldRefusals is how often a refusal must be seen: the first may be of the secret
// that was there before.
const oldRefusals = 10

// prove waits until from's control plane says that the link works.
func (d direction) prove(ctx context.Context) (Linked, error) {
	out := Linked{From: d.from.side.Cluster, To: d.to.side.Cluster}
	var refused error
	refusals := 0
	links := d.from.cluster.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace)
	err := cluster.Until(ctx, "the link from "+out.From+" to "+out.To, func(ctx context.Context) (string, error) {
		found, err := links.Get(ctx, out.To, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var link v1alpha1.ClusterLink
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &link); err != nil {
			return "", err
		}
		out.State, out.Server, out.Message = link.Status.State, link.Status.Server, link.Status.Message
		if out.State == v1alpha1.LinkRefused {
			if refusals++; refusals < oldRefusals {
				return out.Message, nil
			}
			refused = fmt.Errorf("%w: %s reads %s: %s", ErrRefused, out.From, out.To, out.Message)
			return "", nil
		}
		return missing(link.Status), nil
	})
	return out, errors.Join(refused, err)
}

// missing says what a link lacks to be proved; "" when it works.
func missing(s v1alpha1.ClusterLinkStatus) string {
	if s.State == "" {
		return "the control plane has not looked at it yet"
	}
	for _, want := range []string{v1alpha1.ConditionSecretValid, v1alpha1.ConditionReachable, v1alpha1.ConditionSynced, v1alpha1.ConditionGatewayAnswers} {
		for _, c := range s.Conditions {
			if c.Type != want || c.Status == metav1.ConditionTrue {
				continue
			}
			if want == v1alpha1.ConditionGatewayAnswers && c.Reason == v1alpha1.ReasonNotNeeded {
				continue
			}
			return fmt.Sprintf("%s: %s %s", want, c.Reason, c.Message)
		}
	}
	if s.State != v1alpha1.LinkConnected {
		return fmt.Sprintf("it is %s: %s", s.State, s.Message)
	}
	return ""
}
