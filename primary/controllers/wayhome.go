package controllers

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// WayHome keeps, in a remote, the way to the control plane that serves it: the
// EndpointSlices of the Service isthmusd, which has no selector there, and the
// authority by which the remote's API server knows the webhook behind it. Only
// the elected one of all primaries that serve the remote runs it, so that both
// name the same one.
type WayHome struct {
	local     *Local
	kube      kubernetes.Interface // of the remote
	namespace string
	door      func(context.Context) (Door, error)
	authority func() []byte // PEM; nil while there is none
	log       *slog.Logger
}

// wayHomeInterval is how often the way is looked at.
const wayHomeInterval = 3 * time.Second

// NewWayHome returns the controller of the remote that local leads to.
func NewWayHome(local *Local, kube kubernetes.Interface, namespace string, door func(context.Context) (Door, error), authority func() []byte, log *slog.Logger) *WayHome {
	return &WayHome{local, kube, namespace, door, authority, log}
}

// Update implements the elected part; the way does not depend on the mesh.
func (*WayHome) Update(*federation.Snapshot) {}

// Run works until ctx ends. What cannot be found out leaves the remote as it is.
func (w *WayHome) Run(ctx context.Context) error {
	ticker := time.NewTicker(wayHomeInterval)
	defer ticker.Stop()
	failing := ""
	for {
		err := w.look(ctx)
		switch {
		case err == nil:
			failing = ""
		case ctx.Err() == nil && failing != err.Error():
			failing = err.Error()
			w.log.Warn("keep the remote's way to its control plane", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (w *WayHome) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	door, err := w.door(ctx)
	if err != nil {
		return err
	}
	for _, want := range doorSlices(door, w.namespace) {
		if err := w.write(ctx, want); err != nil {
			return err
		}
	}
	if root := w.authority(); len(root) > 0 {
		return webhook.Tell(ctx, w.kube, root)
	}
	return nil
}

// write applies a slice where it differs. One without endpoints is only kept
// where it is: an address family that the gateway has no more.
func (w *WayHome) write(ctx context.Context, want *discoveryv1.EndpointSlice) error {
	var have discoveryv1.EndpointSlice
	found, err := present(w.local.Get(ctx, client.ObjectKeyFromObject(want), &have))
	if err != nil || !found && len(want.Endpoints) == 0 || found && sameDoor(&have, want) {
		return err
	}
	return w.local.apply(ctx, want)
}

func sameDoor(a, b *discoveryv1.EndpointSlice) bool {
	return bytes.Equal(doorText(a), doorText(b))
}

func doorText(s *discoveryv1.EndpointSlice) []byte {
	out, err := (&discoveryv1.EndpointSlice{Endpoints: s.Endpoints, Ports: s.Ports, AddressType: s.AddressType}).Marshal()
	if err != nil {
		return nil
	}
	return out
}

// doorSlices returns a slice for each address family.
func doorSlices(d Door, namespace string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for family, is := range map[discoveryv1.AddressType]func(netip.Addr) bool{discoveryv1.AddressTypeIPv4: netip.Addr.Is4, discoveryv1.AddressTypeIPv6: netip.Addr.Is6} {
		name := api.ControlPlaneName + "-ipv4"
		if family == discoveryv1.AddressTypeIPv6 {
			name = api.ControlPlaneName + "-ipv6"
		}
		s := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: name,
				Labels: map[string]string{discoveryv1.LabelServiceName: api.ControlPlaneName, discoveryv1.LabelManagedBy: api.ManagedBy},
			},
			AddressType: family,
			Ports: []discoveryv1.EndpointPort{
				{Name: new("grpc-tls"), Port: new(int32(d.Discovery)), Protocol: new(corev1.ProtocolTCP)},
				{Name: new("https-webhook"), Port: new(int32(d.Webhook)), Protocol: new(corev1.ProtocolTCP)},
			},
		}
		for _, a := range d.Addrs {
			if is(a) {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
			}
		}
		out = append(out, s)
	}
	return out
}
