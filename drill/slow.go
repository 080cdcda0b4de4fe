package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// RelayName is the Deployment and the Service of the relay, in the system namespace.
const RelayName = "isthmus-drill-relay"

// Relay is a program of ours before the east-west gateway of a cluster, which holds back
// what passes. Peers are led to it by the gateway's annotation for addresses given by hand.
type Relay struct {
	Cluster string        `json:"cluster"` // name of the cluster whose gateway is slowed
	Delay   time.Duration `json:"delay"`   // of a round trip
	Image   string        `json:"image"`
	// Type is that of the relay's Service: the gateway's own, since what makes that reachable makes
	// the relay so. Empty means LoadBalancer.
	Type corev1.ServiceType `json:"type,omitempty"`
}

func (r Relay) String() string {
	return fmt.Sprintf("lead the way to the gateway of %s through a relay that adds %s to each round trip", r.Cluster, r.Delay)
}

// relayPatience bounds the start of the relay, its load balancer's address included.
const relayPatience = 2 * time.Minute

// start runs the relay; nobody is led to it yet.
func (r Relay) start(ctx context.Context, h Hands, name string) error {
	ctx, cancel := context.WithTimeout(ctx, relayPatience)
	defer cancel()
	in, err := h.Open(name)
	if err != nil {
		return err
	}
	if err := in.Apply(ctx, api.SystemNamespace, r.objects()...); err != nil {
		return err
	}
	if err := in.WaitDeployments(ctx, api.SystemNamespace, RelayName); err != nil {
		return err
	}
	_, err = relayAddress(ctx, in)
	return err
}

// relayAddress waits for the relay's address from outside, host:port.
func relayAddress(ctx context.Context, in *cluster.Cluster) (address string, err error) {
	err = cluster.Until(ctx, "an address of the relay in "+in.Context, func(ctx context.Context) (string, error) {
		s, err := in.Kube.CoreV1().Services(api.SystemNamespace).Get(ctx, RelayName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		all, err := relayAddresses(ctx, in, s)
		if err != nil {
			return "", err
		}
		if len(all) == 0 {
			return fmt.Sprintf("its Service, a %s, has no address yet", s.Spec.Type), nil
		}
		address = all[0]
		return "", nil
	})
	return address, err
}

// relayAddresses are those of a load balancer, or the nodes' where the Service is a NodePort.
func relayAddresses(ctx context.Context, in *cluster.Cluster, s *corev1.Service) ([]string, error) {
	var out []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" {
			out = append(out, net.JoinHostPort(i.IP, strconv.Itoa(api.PortEastWest)))
		}
	}
	if s.Spec.Type != corev1.ServiceTypeNodePort || len(s.Spec.Ports) == 0 || s.Spec.Ports[0].NodePort == 0 {
		return out, nil
	}
	nodes, err := in.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes of a NodePort in %s: %w", in.Context, err)
	}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				out = append(out, net.JoinHostPort(a.Address, strconv.Itoa(int(s.Spec.Ports[0].NodePort))))
			}
		}
	}
	return out, nil
}

// put leads peers to the relay.
func (r Relay) put(ctx context.Context, h Hands, name string) error {
	in, err := h.Open(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, relayPatience)
	defer cancel()
	address, err := relayAddress(ctx, in)
	if err != nil {
		return err
	}
	return annotate(ctx, in, &address)
}

// moveAway is how long proxies have to take connections away from the relay before it goes.
const moveAway = 3 * time.Second

// remove leads peers to the gateway again and takes the relay away; it lets its connections end.
func (r Relay) remove(ctx context.Context, h Hands, name string) error {
	in, err := h.Open(name)
	if err != nil {
		return err
	}
	given, _, err := GatewayByHand(ctx, in)
	if err != nil {
		return err
	}
	ours, err := leadsToRelay(ctx, in, given)
	if err != nil {
		return err
	}
	if ours {
		if err := annotate(ctx, in, nil); err != nil {
			return err
		}
		if err := pause(ctx, moveAway); err != nil {
			return err
		}
	}
	return in.Delete(ctx, api.SystemNamespace, r.objects()...)
}

// leadsToRelay reports whether the gateway's addresses given by hand are the relay's. The drill was
// refused where there were any before, so those of a relay that is gone are its own, too.
func leadsToRelay(ctx context.Context, in *cluster.Cluster, given string) (bool, error) {
	if given == "" {
		return false, nil
	}
	relay, err := in.Kube.CoreV1().Services(api.SystemNamespace).Get(ctx, RelayName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the relay in %s: %w", in.Context, err)
	}
	all, err := relayAddresses(ctx, in, relay)
	return slices.Contains(all, given), err
}

// GatewayByHand returns the addresses of the gateway that were given by hand, or "", and its Service's type.
func GatewayByHand(ctx context.Context, in *cluster.Cluster) (string, corev1.ServiceType, error) {
	s, err := in.Kube.CoreV1().Services(api.SystemNamespace).Get(ctx, api.EastWestName, metav1.GetOptions{})
	if err != nil {
		return "", "", fmt.Errorf("read the gateway's service in %s: %w", in.Context, err)
	}
	return s.Annotations[api.AnnotationGatewayAddresses], s.Spec.Type, nil
}

// annotate sets the gateway's addresses, or takes them away.
func annotate(ctx context.Context, in *cluster.Cluster, address *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{api.AnnotationGatewayAddresses: address}}})
	if err != nil {
		return err
	}
	_, err = in.Kube.CoreV1().Services(api.SystemNamespace).Patch(ctx, api.EastWestName, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.FieldOwner})
	if err != nil {
		return fmt.Errorf("set the gateway's addresses in %s: %w", in.Context, err)
	}
	return nil
}

func (r Relay) objects() []*unstructured.Unstructured {
	labels := map[string]any{"app": RelayName}
	args := []any{"relay", "--listen", fmt.Sprintf(":%d", api.PortEastWest), "--to", fmt.Sprintf("%s.%s.svc.%s:%d", api.EastWestName, api.SystemNamespace, api.ZoneCluster, api.PortEastWest), "--delay", r.Delay.String()}
	return []*unstructured.Unstructured{
		{Object: map[string]any{
			"apiVersion": "v1", "kind": "Service",
			"metadata": map[string]any{"name": RelayName, "labels": labels},
			"spec": map[string]any{
				"type": string(cmp.Or(r.Type, corev1.ServiceTypeLoadBalancer)), "selector": labels,
				"ports": []any{map[string]any{"name": "tls", "port": int64(api.PortEastWest)}},
			},
		}},
		{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": map[string]any{"name": RelayName, "labels": labels},
			"spec": map[string]any{
				"replicas": int64(1),
				"selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{"app": RelayName, api.LabelInject: "false"}},
					"spec": map[string]any{
						"terminationGracePeriodSeconds": int64(30),
						"containers": []any{map[string]any{
							"name": "relay", "image": r.Image, "args": args,
							"readinessProbe": map[string]any{"tcpSocket": map[string]any{"port": int64(api.PortEastWest)}, "periodSeconds": int64(1)},
						}},
					},
				},
			},
		}},
	}
}
