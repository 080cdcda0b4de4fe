package draining

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/drilling"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/eastwest"
)

// Left is traffic that a drained cluster still has.
type Left struct {
	Service     string  `json:"service"` // what is called: NAMESPACE/NAME of a service, or of the workload that answers
	From        string  `json:"from"`    // who calls
	Requests    float64 `json:"requests,omitempty"`
	Connections int64   `json:"connections,omitempty"`
	// Stays says why it will not move; empty: it should.
	Stays string `json:"stays,omitempty"`
}

// Sight is what was seen of a drained cluster in a short time.
type Sight struct {
	Span   time.Duration
	Left   []Left   // by service
	Unseen []string // proxies that could not be asked, and why
}

// Moved reports whether nothing is left that moves, and all was seen.
func (s Sight) Moved() bool {
	return len(s.Unseen) == 0 && !slices.ContainsFunc(s.Left, func(l Left) bool { return l.Stays == "" })
}

// Words says in a few words what is left that moves.
func (s Sight) Words() string {
	requests, connections := 0.0, int64(0)
	services := map[string]bool{}
	for _, l := range s.Left {
		if l.Stays == "" {
			requests, connections = requests+l.Requests, connections+l.Connections
			services[l.Service] = true
		}
	}
	text := "nothing that moves is left"
	if len(services) > 0 {
		text = fmt.Sprintf("%.1f requests/s and %d connections are left, of %s", requests/s.Span.Seconds(), connections, strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	}
	if len(s.Unseen) > 0 {
		text += fmt.Sprintf("; not seen: %s", drilling.Few(s.Unseen))
	}
	return text
}

// watcher keeps tunnels to the proxies of a drained cluster.
type watcher struct {
	plan    *Plan
	cluster *cluster.Cluster

	tunnels  map[string]*cluster.Tunnel // by UID of the pod
	last     map[string]counts
	at       time.Time
	services map[string][]string // of each pod, NAMESPACE/NAME
}

func newWatcher(p *Plan) *watcher {
	return &watcher{plan: p, cluster: p.target.There, tunnels: map[string]*cluster.Tunnel{}, last: map[string]counts{}}
}

func (w *watcher) close() {
	for _, t := range w.tunnels {
		t.Close()
	}
}

// atOnce bounds how many proxies are asked at once.
const atOnce = 16

// look asks every proxy; first is true where there is nothing to compare with yet.
func (w *watcher) look(ctx context.Context) (sight Sight, first bool, err error) {
	pods, err := proxies(ctx, w.cluster)
	if err != nil {
		return sight, false, err
	}
	served, err := servedServices(ctx, w.cluster)
	if err != nil {
		return sight, false, err
	}
	w.services = map[string][]string{}
	for service, of := range served {
		for _, pod := range of {
			w.services[pod] = append(w.services[pod], service)
		}
	}
	w.forget(pods)
	now, at := w.scrapeAll(ctx, pods, &sight), time.Now()
	sight.Span = at.Sub(w.at)
	for i := range pods {
		uid := string(pods[i].UID)
		if c, ok := now[uid]; ok {
			w.add(&sight, &pods[i], c, w.last[uid])
		}
	}
	first = w.at.IsZero()
	for i := range pods { // one that did not answer goes on from what it last said
		uid := string(pods[i].UID)
		if c, known := w.last[uid]; known && now[uid].requests == nil {
			now[uid] = c
		}
	}
	w.last, w.at = now, at
	sight.Left = joined(sight.Left)
	return sight, first, nil
}

// forget closes the tunnels to pods that are gone.
func (w *watcher) forget(pods []corev1.Pod) {
	for uid, t := range w.tunnels {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return string(p.UID) == uid }) {
			t.Close()
			delete(w.tunnels, uid)
		}
	}
}

// scrapeAll returns what the proxies answer, by UID.
func (w *watcher) scrapeAll(ctx context.Context, pods []corev1.Pod, sight *Sight) map[string]counts {
	out := map[string]counts{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range pods {
		pod := &pods[i]
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			mu.Lock()
			t := w.tunnels[string(pod.UID)]
			mu.Unlock()
			t, c, err := w.scrape(ctx, t, pod)
			mu.Lock()
			defer mu.Unlock()
			if delete(w.tunnels, string(pod.UID)); t != nil {
				w.tunnels[string(pod.UID)] = t
			}
			if err != nil {
				sight.Unseen = append(sight.Unseen, fmt.Sprintf("%s/%s: %v", pod.Namespace, pod.Name, err))
				return
			}
			out[string(pod.UID)] = c
		})
	}
	wg.Wait()
	slices.Sort(sight.Unseen)
	return out
}

// scrape asks by the tunnel that there is, else by a new one, and returns the one
// to keep.
func (w *watcher) scrape(ctx context.Context, t *cluster.Tunnel, pod *corev1.Pod) (*cluster.Tunnel, counts, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	gateway := pod.Labels[api.LabelGateway] == api.GatewayEastWest && isGateway(pod)
	if t != nil {
		if c, err := scrape(ctx, t, w.plan.Cluster, gateway); err == nil {
			return t, c, nil
		}
		t.Close()
	}
	t, err := w.cluster.Forward(ctx, pod.Namespace, pod.Name, api.PortAdmin)
	if err != nil {
		return nil, counts{}, err
	}
	c, err := scrape(ctx, t, w.plan.Cluster, gateway)
	if err != nil {
		t.Close()
		return nil, counts{}, err
	}
	return t, c, nil
}

// add notes what one proxy has done since last, and has open. A proxy that is new
// has nothing to compare with, and counts from nothing: it is as young as that.
func (w *watcher) add(sight *Sight, pod *corev1.Pod, now, last counts) {
	for f, n := range now.requests {
		if n -= last.requests[f]; n > 0 {
			sight.Left = append(sight.Left, w.left(pod, f, n, 0))
		}
	}
	for f, n := range now.open {
		if n > 0 {
			sight.Left = append(sight.Left, w.left(pod, f, 0, int64(n)))
		}
	}
	for name, n := range now.passing {
		if n > 0 {
			sight.Left = append(sight.Left, w.passing(name, n))
		}
	}
}

// left says of a flow what it is, and whether it moves.
func (w *watcher) left(pod *corev1.Pod, f flow, requests float64, connections int64) Left {
	l := Left{Service: f.Target, From: f.From, Requests: requests, Connections: connections}
	if !f.Source {
		l.Stays = w.staysBehind(pod.Namespace + "/" + pod.Name)
		if served := w.services[pod.Namespace+"/"+pod.Name]; len(served) == 1 {
			l.Service = served[0]
		}
		switch f.From {
		case "":
			l.From, l.Stays = "pods without a sidecar", "a caller without a sidecar is known to nobody; it called an address of this cluster"
		default:
			l.From = "cluster " + f.From
		}
		return l
	}
	service, local, ok := serviceOf(f.Target)
	if !ok {
		l.Stays = "it is no service of the clusterset"
		return l
	}
	l.Service = service
	stay, stays := w.plan.stays[service]
	switch {
	case stays && (local || !stay.Partly):
		l.Stays = stay.Why
	case local && !slices.Contains(w.plan.Moves, service):
		l.Stays = whyLocal
	}
	return l
}

// passing is what a gateway passes on under a server name.
func (w *watcher) passing(serverName string, connections int64) Left {
	l := Left{Service: serverName, From: "other networks", Connections: connections}
	if n, err := eastwest.ParseSNI(serverName); err == nil {
		l.Service = n.Namespace + "/" + n.Service
	}
	if stay, ok := w.plan.stays[l.Service]; ok && !stay.Partly {
		l.Stays = stay.Why
	}
	return l
}

// staysBehind says why callers from elsewhere stay with a pod: all services that
// lead to it do.
func (w *watcher) staysBehind(pod string) string {
	why := ""
	for _, service := range w.services[pod] {
		stay, ok := w.plan.stays[service]
		if !ok || stay.Partly {
			return ""
		}
		if why == "" || stay.Why != whyLocal {
			why = stay.Why
		}
	}
	return why
}

// joined adds up what is the same but for its numbers, sorted.
func joined(all []Left) []Left {
	by := map[Left]*Left{}
	for _, l := range all {
		key := Left{Service: l.Service, From: l.From, Stays: l.Stays}
		if by[key] == nil {
			by[key] = &Left{Service: l.Service, From: l.From, Stays: l.Stays}
		}
		by[key].Requests += l.Requests
		by[key].Connections += l.Connections
	}
	out := []Left{}
	for _, l := range by {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b Left) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.From, b.From), cmp.Compare(a.Stays, b.Stays))
	})
	return out
}

// printLeft writes a table of what is left.
func printLeft(w io.Writer, seconds float64, left []Left) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  SERVICE\tFROM\tREQUESTS/S\tCONNECTIONS\tMOVES")
	for _, l := range left {
		fmt.Fprintf(t, "  %s\t%s\t%.1f\t%d\t%s\n", l.Service, l.From, l.Requests/seconds, l.Connections, cmp.Or(l.Stays, "yes"))
	}
	return t.Flush()
}
