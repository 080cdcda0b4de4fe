package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// saying is a listener at an address that says its name.
func saying(t *testing.T, name, at string, bind bool) *listenerv3.Listener {
	t.Helper()
	addr := netip.MustParseAddrPort(at)
	body, err := anypb.New(&directv3.Config{Response: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: name}}})
	if err != nil {
		t.Fatal(err)
	}
	return &listenerv3.Listener{
		Name: name, BindToPort: wrapperspb.Bool(bind), UseOriginalDst: wrapperspb.Bool(bind), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: addr.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(addr.Port())},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "direct", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: body}}}}},
	}
}

// sidecarIn runs a proxy whose sockets are in a namespace.
func sidecarIn(t *testing.T, pod *netnstest.Namespace, listeners ...*listenerv3.Listener) {
	t.Helper()
	p, err := New(Options{Listen: func(_ context.Context, network string, at netip.AddrPort) (l net.Listener, err error) {
		err = pod.Do(func() error { l, err = net.Listen(network, at.String()); return err })
		return l, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	state := map[string]proto.Message{}
	for _, l := range listeners {
		if err := config.Check(config.TypeListener, l.GetName(), l); err != nil {
			t.Fatal(err)
		}
		state[l.GetName()] = l
	}
	if err := p.Apply(config.State{config.TypeListener: state}); err != nil {
		t.Fatal(err)
	}
}

// The kernel sends class E by the default route, and the redirect takes it on
// the way: an application's connection to a synthetic address arrives at its
// listener, in every way that pods are wired.
func TestSyntheticAddress(t *testing.T) {
	for name, wire := range map[string]func(pod, node *netnstest.Namespace){
		"gateway in the pod's subnet": func(pod, node *netnstest.Namespace) {
			netnstest.Connect(pod, node, "eth0", "veth0", []string{"10.0.0.2/24"}, []string{"10.0.0.1/24"})
			pod.Gateway("10.0.0.1")
		},
		"address alone, gateway on the link": func(pod, node *netnstest.Namespace) { // as Cilium and Calico have it
			netnstest.Connect(pod, node, "eth0", "veth0", []string{"10.0.0.2/32"}, []string{"169.254.1.1/32"})
			pod.GatewayOnLink("eth0", "169.254.1.1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, node := netnstest.New(t), netnstest.New(t)
			wire(pod, node)
			pod.Must(func() error { return intercept.Apply(intercept.Options{}) })
			sidecarIn(t, pod, saying(t, "outbound", fmt.Sprintf("0.0.0.0:%d", api.PortOutbound), true),
				saying(t, "db-0", "240.241.0.5:5432", false), saying(t, "db-1", "240.241.255.254:5432", false))
			for to, want := range map[string]string{
				"240.241.0.5:5432": "db-0", "240.241.255.254:5432": "db-1", "240.241.0.5:5433": "outbound", "240.241.0.6:5432": "outbound",
			} {
				if got := said(t, pod, to); got != want {
					t.Errorf("%s: %q, want %q", to, got, want)
				}
			}
		})
	}
}

// A pod without any route to it cannot reach a synthetic address: the kernel
// refuses before the redirect. (No pod is so; this is what to look for.)
func TestSyntheticAddressWithoutRoute(t *testing.T) {
	pod, node := netnstest.New(t), netnstest.New(t)
	netnstest.Connect(pod, node, "eth0", "veth0", []string{"10.0.0.2/24"}, []string{"10.0.0.1/24"})
	pod.Must(func() error { return intercept.Apply(intercept.Options{}) })
	if c, err := pod.Dial(t.Context(), "240.241.0.5:5432", 0); err == nil {
		_ = c.Close()
		t.Error("connected")
	}
}

func said(t *testing.T, pod *netnstest.Namespace, to string) string {
	t.Helper()
	c, err := pod.Dial(t.Context(), to, 0)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(got)
}
