package server

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/ads"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// debugHandler serves the debug view. It holds no key and no token, and is
// reached over loopback only, which kubectl port-forward is. ?cluster=NAME asks for
// a remote that is served here; without it proxies are everybody's, all else is
// the own cluster's.
func (s *Server) debugHandler(p *parts) http.Handler {
	mux := http.NewServeMux()
	for path, value := range map[string]func(...*plane) any{
		"/debug/proxies":  func(of ...*plane) any { return proxiesView(proxiesOf(of)) },
		"/debug/pushes":   func(of ...*plane) any { return pushesView(proxiesOf(of)) },
		"/debug/clusters": func(of ...*plane) any { return p.clustersView(of[0]) },
		"/debug/snapshot": func(of ...*plane) any { return snapshotView(of[0].watch.Snapshot()) },
		"/debug/problems": func(of ...*plane) any {
			return append(problemsView(of[0].watch.Snapshot(), of[0].ads.Problems()), of[0].overlap.problem()...)
		},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			of := p.planes.all()
			if name := r.URL.Query().Get("cluster"); name != "" {
				one := p.planes.of(name)
				if one == nil {
					http.Error(w, "no such cluster is served here", http.StatusNotFound)
					return
				}
				of = []*plane{one}
			}
			w.Header().Set("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(value(of...))
		})
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func proxiesOf(planes []*plane) []ads.ProxyStatus {
	var out []ads.ProxyStatus
	for _, p := range planes {
		out = append(out, p.ads.Proxies()...)
	}
	return out
}

// proxyView adds to a proxy's state what it refused, over all types.
type proxyView struct {
	ads.ProxyStatus
	Refused map[string]string `json:"refused,omitempty"` // "TYPE NAME" to error
}

func proxiesView(proxies []ads.ProxyStatus) []proxyView {
	out := make([]proxyView, 0, len(proxies))
	for _, p := range proxies {
		view := proxyView{ProxyStatus: p}
		for _, t := range p.Types {
			for name, r := range t.Refused {
				if view.Refused == nil {
					view.Refused = map[string]string{}
				}
				view.Refused[t.Type+" "+name] = r.Error
			}
		}
		out = append(out, view)
	}
	return out
}

// pushView is the state of delivery to one proxy.
type pushView struct {
	Cluster   string           `json:"cluster"`
	Namespace string           `json:"namespace"`
	Pod       string           `json:"pod"`
	Types     []ads.TypeStatus `json:"types"`
}

func pushesView(proxies []ads.ProxyStatus) []pushView {
	out := make([]pushView, 0, len(proxies))
	for _, p := range proxies {
		out = append(out, pushView{p.Cluster, p.Namespace, p.Pod, p.Types})
	}
	return out
}

type clustersView struct {
	Clusters []*federation.Cluster `json:"clusters"`
	Links    []registry.Status     `json:"links"`
	Refusals []registry.Refusal    `json:"refusals,omitempty"`
	Unread   []string              `json:"unread,omitempty"`
	Leader   bool                  `json:"leader"`
	Serves   []servedView          `json:"serves,omitempty"` // remotes
}

// servedView is a remote that is served, or that cannot be.
type servedView struct {
	Cluster string `json:"cluster"`
	Leader  bool   `json:"leader"`            // its controllers run here
	Message string `json:"message,omitempty"` // why it is not served
}

func (p *parts) clustersView(of *plane) clustersView {
	out := clustersView{
		Clusters: of.watch.Snapshot().Clusters(), Links: of.watch.Statuses(), Refusals: of.watch.Refusals(),
		Unread: of.watch.Unread(), Leader: of.elected.Leading(),
	}
	if of != p.own {
		return out
	}
	for _, served := range p.planes.all()[1:] {
		out.Serves = append(out.Serves, servedView{Cluster: string(served.cluster), Leader: served.elected.Leading()})
	}
	for name, why := range p.remotes.Refused() {
		out.Serves = append(out.Serves, servedView{Cluster: name, Message: why})
	}
	return out
}

type snapshotOutput struct {
	Clusters  []*federation.Cluster  `json:"clusters"`
	Services  []serviceView          `json:"services"`
	Workloads []*federation.Workload `json:"workloads"`
}

// serviceView is a service with its identities as text.
type serviceView struct {
	*federation.Service
	Host      string
	Accounts  []string
	Endpoints []endpointView
}

type endpointView struct {
	federation.Endpoint
	Account string
}

func snapshotView(s *federation.Snapshot) snapshotOutput {
	out := snapshotOutput{Clusters: s.Clusters()}
	for svc := range s.Services() {
		view := serviceView{Service: svc, Host: svc.Key.Hostname()}
		for _, id := range svc.Accounts {
			view.Accounts = append(view.Accounts, id.String())
		}
		for _, e := range svc.Endpoints {
			view.Endpoints = append(view.Endpoints, endpointView{e, e.Account.String()})
		}
		out.Services = append(out.Services, view)
	}
	for w := range s.Workloads() {
		out.Workloads = append(out.Workloads, w)
	}
	return out
}

// problemView is a Problem in JSON's manner.
type problemView struct {
	Cluster   string `json:"cluster"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
}

func problemsView(s *federation.Snapshot, xds map[federation.ServiceKey]string) []problemView {
	out := []problemView{}
	for _, p := range s.Problems() {
		out = append(out, problemView{string(p.Object.Cluster), p.Object.Kind, p.Object.Namespace, p.Object.Name, p.Reason, p.Message})
	}
	for svc := range s.Services() {
		if message, ok := xds[svc.Key]; ok {
			out = append(out, problemView{string(svc.Key.Cluster), "Service", svc.Key.Namespace, svc.Key.Name, "NotExpressible", message})
		}
	}
	return out
}
