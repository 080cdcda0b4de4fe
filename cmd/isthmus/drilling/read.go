// Package drilling prepares, does and undoes the drills of the command line: what a drill changes
// on which cluster, whether that is safe, and who has to know.
package drilling

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// seen is all that a drill is planned from.
type seen struct {
	spec            drill.Spec
	namespace, name string
	from            *cluster.Cluster // the load comes from here
	home            string           // its name
	installed       *clusterset.Installed
	// members are the clusters of this clusterset that the kubeconfig leads to, by name; home is
	// always among them.
	members  map[string]*cluster.Cluster
	imported importview.Import
	imports  []importview.Import // all that home has
	ready    map[string]int      // ready endpoints of the service by exporter, as home sees them
	links    map[string]v1alpha1.LinkState
	near     map[string]bool  // clusters on home's own network
	lab      *sandbox.Sandbox // nil where home is in no sandbox of this machine
}

// contextPatience is how long a context of the kubeconfig may take to say whether it belongs to us.
const contextPatience = 5 * time.Second

// look reads what the drill is planned from, and changes nothing.
func look(ctx context.Context, kubeconfig string, spec drill.Spec) (*seen, error) {
	s := &seen{spec: spec, ready: map[string]int{}, links: map[string]v1alpha1.LinkState{}, near: map[string]bool{}}
	var err error
	if s.namespace, s.name, err = spec.Names(); err != nil {
		return nil, err
	}
	if s.from, s.installed, err = open(ctx, kubeconfig, spec.Context); err != nil {
		return nil, err
	}
	s.home = s.installed.Cluster
	s.members = members(ctx, kubeconfig, s.from, s.installed)
	if err := s.readImports(ctx); err != nil {
		return nil, err
	}
	if err := s.readLinks(ctx); err != nil {
		return nil, err
	}
	s.lab = labOf(s.from)
	return s, nil
}

// open opens a context whose cluster has the mesh.
func open(ctx context.Context, kubeconfig, name string) (*cluster.Cluster, *clusterset.Installed, error) {
	c, err := cluster.Open(kubeconfig, name)
	if err != nil {
		return nil, nil, err
	}
	installed, err := clusterset.Find(ctx, c)
	if err == nil && installed == nil {
		err = fmt.Errorf("context %s: %w", c.Context, clusterset.ErrNotInstalled)
	}
	return c, installed, err
}

// members returns the clusters of from's clusterset; contexts that do not answer are left out.
func members(ctx context.Context, kubeconfig string, from *cluster.Cluster, home *clusterset.Installed) map[string]*cluster.Cluster {
	out := map[string]*cluster.Cluster{home.Cluster: from}
	names, err := cluster.Contexts(kubeconfig)
	if err != nil {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, contextPatience)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			c, found, err := open(ctx, kubeconfig, name)
			if err != nil || found.Clusterset != home.Clusterset || found.TrustDomain != home.TrustDomain {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if _, known := out[found.Cluster]; !known {
				out[found.Cluster] = c
			}
		})
	}
	wg.Wait()
	return out
}

// ErrNoImport is wrapped when nobody exports the service.
var ErrNoImport = errors.New("the service is not imported")

func (s *seen) readImports(ctx context.Context) error {
	report := importview.Collect(ctx, []*cluster.Cluster{s.from}, "", "")
	if len(report.Notes) > 0 {
		return fmt.Errorf("read imports: %s", report.Notes[0])
	}
	s.imports = report.Imports
	at := slices.IndexFunc(s.imports, func(i importview.Import) bool { return i.Namespace == s.namespace && i.Name == s.name })
	if at < 0 || len(s.imports[at].Exporters) == 0 {
		return fmt.Errorf("%w: no cluster that %s knows exports %s", ErrNoImport, s.home, s.spec.Service)
	}
	s.imported = s.imports[at]
	return s.readPort()
}

// readPort chooses the port, and counts what is ready behind it: not every exporter need have it.
func (s *seen) readPort() error {
	var known []string
	for _, p := range s.imported.Ports {
		if s.spec.Port == 0 {
			s.spec.Port = int(p.Number)
		}
		known = append(known, fmt.Sprint(p.Number))
		if int(p.Number) != s.spec.Port {
			continue
		}
		for _, exporter := range p.Clusters {
			s.ready[exporter] = int(s.imported.Endpoints(exporter))
		}
	}
	if s.spec.Port == 0 || !slices.Contains(known, fmt.Sprint(s.spec.Port)) {
		return errWhich{fmt.Errorf("%s has no port %d; it has %s", s.spec.Service, s.spec.Port, strings.Join(known, ", "))}
	}
	return nil
}

func (s *seen) readLinks(ctx context.Context) error {
	list, err := s.from.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the links of %s: %w", s.home, err)
	}
	for _, item := range list.Items {
		var link v1alpha1.ClusterLink
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &link); err != nil {
			return fmt.Errorf("read the link from %s to %s: %w", s.home, item.GetName(), err)
		}
		s.links[link.Name] = link.Status.State
		c := meta.FindStatusCondition(link.Status.Conditions, v1alpha1.ConditionGatewayAnswers)
		if c != nil && c.Reason == v1alpha1.ReasonNotNeeded {
			s.near[link.Name] = true
		}
	}
	return nil
}

// labOf returns the sandbox that c is in; nil where it is in none of this machine.
func labOf(c *cluster.Cluster) *sandbox.Sandbox {
	lab, err := sandbox.Attach(os.Getenv("ISTHMUS_SANDBOX_DIR"))
	if err != nil {
		return nil
	}
	config, err := lab.Config(c.Context)
	if err != nil || config.Host != c.Config.Host {
		return nil
	}
	return lab
}

// others are the exporters besides home, sorted.
func (s *seen) others() []string {
	var out []string
	for _, e := range s.imported.Exporters {
		if e.Cluster != s.home {
			out = append(out, e.Cluster)
		}
	}
	slices.Sort(out)
	return out
}

// exported reports whether cluster exports the service.
func (s *seen) exported(cluster string) bool { return s.exporters()[cluster] }

func (s *seen) exporters() map[string]bool {
	out := map[string]bool{}
	for _, e := range s.imported.Exporters {
		out[e.Cluster] = true
	}
	return out
}
