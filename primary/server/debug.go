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
// reached over loopback only, which kubectl port-forward is.
func (s *Server) debugHandler(p *parts) http.Handler {
	mux := http.NewServeMux()
	for path, value := range map[string]func() any{
		"/debug/proxies":  func() any { return proxiesView(p.ads.Proxies()) },
		"/debug/pushes":   func() any { return pushesView(p.ads.Proxies()) },
		"/debug/clusters": func() any { return s.clustersView(p) },
		"/debug/snapshot": func() any { return snapshotView(p.watch.Snapshot()) },
		"/debug/problems": func() any { return append(problemsView(p.watch.Snapshot(), p.ads.Problems()), p.overlap.problem()...) },
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(value())
		})
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
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
}

func (s *Server) clustersView(p *parts) clustersView {
	return clustersView{
		Clusters: p.watch.Snapshot().Clusters(), Links: p.watch.Statuses(), Refusals: p.watch.Refusals(),
		Unread: p.watch.Unread(), Leader: p.elected.Leading(),
	}
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
