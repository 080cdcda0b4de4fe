package server_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// world is what TestKilledControlPlanes changes, and its own account of it.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	clusters []*clusterWorld
}

// clusterWorld is one cluster. Networks differ: each has the name of its cluster.
type clusterWorld struct {
	t    *testing.T
	name string
	env  *testenv.Env
	client.Client
	net  int // second byte of its pods' addresses
	pods int // made so far
	all  map[client.ObjectKey]*thing
	ns   map[string]bool
}

// thing is a service and its export, as the test has made them.
type thing struct {
	key      client.ObjectKey
	headless bool
	service  bool // is there
	export   bool // is there
	ports    []int32
	pods     []string
	ready    bool // its pods
	anchor   bool // exported throughout, at port 9080 among others
}

func worldPorts() []int32 { return []int32{9080, 9081, 9082, 9083} }
func worldNamespaces() []string {
	return []string{"kill-0", "kill-1", "kill-2", "kill-3", "kill-4", "kill-5"}
}
func worldNames() []string { return []string{"web-0", "web-1", "web-2", "db-0"} }

// newWorld makes both clusters: some namespaces are in both, others follow.
func newWorld(t *testing.T, rng *rand.Rand, envs ...*testenv.Env) *world {
	t.Helper()
	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, rng: rng}
	for i, env := range envs {
		cl, err := client.New(env.Config, client.Options{Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		c := &clusterWorld{t: t, name: []string{"east", "west"}[i], env: env, Client: cl, net: i + 1, all: map[client.ObjectKey]*thing{}, ns: map[string]bool{}}
		account(t, env, c.name) // the chart, so that its objects are there first
		c.makeEntry()
		for j, ns := range worldNamespaces() {
			if j < 2 || j%2 == i {
				c.makeNamespace(rng, ns)
			}
		}
		for _, name := range []string{"web-0", "db-0"} {
			anchor := c.all[client.ObjectKey{Namespace: worldNamespaces()[i], Name: name}]
			anchor.anchor = true
			c.setPorts(anchor, []int32{9080})
			c.setExport(anchor, true)
		}
		w.clusters = append(w.clusters, c)
	}
	return w
}

// change makes one change somewhere.
func (w *world) change() {
	c := w.clusters[w.rng.IntN(len(w.clusters))]
	if missing := slices.DeleteFunc(worldNamespaces(), func(ns string) bool { return c.ns[ns] }); len(missing) > 0 && w.rng.IntN(60) == 0 {
		c.makeNamespace(w.rng, missing[w.rng.IntN(len(missing))])
		return
	}
	var keys []client.ObjectKey
	for _, ns := range worldNamespaces() {
		for _, name := range worldNames() {
			if c.ns[ns] {
				keys = append(keys, client.ObjectKey{Namespace: ns, Name: name})
			}
		}
	}
	s := c.all[keys[w.rng.IntN(len(keys))]]
	switch n := w.rng.IntN(10); {
	case n < 5 && !s.anchor:
		c.setExport(s, !s.export)
	case n == 5 && !s.anchor:
		c.setService(s, !s.service)
	case n == 6:
		c.setReady(s, !s.ready)
	default:
		c.setPorts(s, somePorts(w.rng, s.anchor))
	}
}

// somePorts picks ports; an anchor's hold the first.
func somePorts(rng *rand.Rand, first bool) []int32 {
	var out []int32
	for i, p := range worldPorts() {
		if rng.IntN(2) == 0 || first && i == 0 {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return []int32{worldPorts()[rng.IntN(4)]}
	}
	return out
}

func (c *clusterWorld) must(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s in %s: %v", what, c.name, err)
	}
}

// makeNamespace makes a namespace with its services, none of them exported.
func (c *clusterWorld) makeNamespace(rng *rand.Rand, ns string) {
	c.t.Helper()
	c.env.EnsureNamespace(c.t, ns)
	c.must("make account", c.Create(c.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "app"}}))
	for _, name := range worldNames() {
		s := &thing{key: client.ObjectKey{Namespace: ns, Name: name}, headless: name[:2] == "db", ports: somePorts(rng, false), ready: true}
		for i := range 2 {
			s.pods = append(s.pods, fmt.Sprintf("%s-%d", name, i))
		}
		c.all[s.key] = s
		c.makeEndpoints(s)
		c.setService(s, true)
	}
	c.ns[ns] = true
}

func (c *clusterWorld) address() string {
	c.pods++
	return fmt.Sprintf("10.%d.%d.%d", c.net, c.pods/250, c.pods%250+1)
}

// makeEndpoints makes the pods of s, with sidecars, and the slice that holds them.
func (c *clusterWorld) makeEndpoints(s *thing) {
	c.t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: s.key.Namespace, Name: s.key.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: s.key.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range worldPorts() {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(portName(p)), Port: new(p), Protocol: new(corev1.ProtocolTCP)})
	}
	for _, name := range s.pods {
		pod := c.makePod(s.key.Namespace, name, "app", map[string]string{"app": s.key.Name})
		e := discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}
		if s.headless {
			e.Hostname = new(name)
		}
		slice.Endpoints = append(slice.Endpoints, e)
	}
	c.must("make slice", c.Create(c.t.Context(), slice))
}

func (c *clusterWorld) makePod(ns, name, account string, labels map[string]string) *corev1.Pod {
	c.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Annotations: map[string]string{api.AnnotationInjected: "dev"}, Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, AutomountServiceAccountToken: new(false), NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "app"}},
		},
	}
	c.must("make pod", c.Create(c.t.Context(), pod))
	ip := c.address()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	c.must("run pod", c.Status().Update(c.t.Context(), pod))
	return pod
}

// makeEntry makes the entry gateway's pod and slice, as the Deployment would.
func (c *clusterWorld) makeEntry() {
	c.t.Helper()
	pod := c.makePod(api.SystemNamespace, "isthmus-entry-1", api.EntryName, map[string]string{"app": api.EntryName, api.LabelGateway: api.GatewayEntry})
	c.must("make entry slice", c.Create(c.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: "isthmus-entry-1", Labels: map[string]string{discoveryv1.LabelServiceName: api.EntryName}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http-status"), Port: new(int32(api.PortHealth)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}},
	}))
}

func portName(p int32) string { return fmt.Sprintf("p%d", p) }

func (c *clusterWorld) servicePorts(s *thing) []corev1.ServicePort {
	var out []corev1.ServicePort
	for _, p := range s.ports {
		out = append(out, corev1.ServicePort{Name: portName(p), Port: p, TargetPort: intstr.FromInt32(p), Protocol: corev1.ProtocolTCP})
	}
	return out
}

func (c *clusterWorld) setService(s *thing, there bool) {
	c.t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.key.Namespace, Name: s.key.Name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": s.key.Name}, Ports: c.servicePorts(s)},
	}
	if s.headless {
		service.Spec.ClusterIP = corev1.ClusterIPNone
	}
	if there {
		c.must("make service", c.Create(c.t.Context(), service))
	} else {
		c.must("delete service", c.Delete(c.t.Context(), service))
	}
	s.service = there
}

func (c *clusterWorld) setPorts(s *thing, ports []int32) {
	c.t.Helper()
	s.ports = ports
	if !s.service {
		return
	}
	c.must("change ports", c.retry(&corev1.Service{}, s.key, func(o client.Object) { o.(*corev1.Service).Spec.Ports = c.servicePorts(s) }))
}

func (c *clusterWorld) setReady(s *thing, ready bool) {
	c.t.Helper()
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: s.key.Name + "-1"}
	c.must("change endpoints", c.retry(&discoveryv1.EndpointSlice{}, key, func(o client.Object) {
		for i := range o.(*discoveryv1.EndpointSlice).Endpoints {
			o.(*discoveryv1.EndpointSlice).Endpoints[i].Conditions.Ready = new(ready)
		}
	}))
	s.ready = ready
}

func (c *clusterWorld) setExport(s *thing, there bool) {
	c.t.Helper()
	export := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: s.key.Namespace, Name: s.key.Name}}
	if there {
		c.must("export", c.Create(c.t.Context(), export))
	} else {
		c.must("unexport", c.Delete(c.t.Context(), export))
	}
	s.export = there
}

// retry changes an object that another may change too.
func (c *clusterWorld) retry(o client.Object, key client.ObjectKey, change func(client.Object)) error {
	for {
		if err := c.Get(c.t.Context(), key, o); err != nil {
			return err
		}
		change(o)
		if err := c.Update(c.t.Context(), o); !apierrors.IsConflict(err) {
			return err
		}
	}
}
