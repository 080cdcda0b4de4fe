package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Path is the way of one request, as those on the way tell it.
type Path struct {
	URL      string   `json:"url"`
	Status   int      `json:"status"`
	Millis   float64  `json:"ms"`
	Client   Client   `json:"client"`
	Proxy    Hop      `json:"proxy"`
	Gateway  Passage  `json:"gateway"`
	Server   Server   `json:"server"`
	Problems []string `json:"problems,omitempty"` // what could not be learned, or is not as it should be
}

// Client is the pod that calls. Identity is what its own proxy's certificate says.
type Client struct {
	Cluster  string `json:"cluster"`
	Pod      string `json:"pod"`
	Address  string `json:"address"`
	Identity string `json:"identity,omitempty"`
}

// Hop is the endpoint to which the client's proxy sends, from its accepted configuration.
type Hop struct {
	Container string `json:"container"`
	Address   string `json:"address,omitempty"` // host:port
	Via       string `json:"via,omitempty"`     // direct or gateway
	Cluster   string `json:"cluster,omitempty"`
	Network   string `json:"network,omitempty"`
}

// Passage is the east-west gateway that passed the connection on, and how many
// connections it had passed before and after the request, in its own count.
type Passage struct {
	Cluster string `json:"cluster"`
	Pod     string `json:"pod,omitempty"`
	Address string `json:"address,omitempty"` // from outside, where the client's proxy sends to
	SNI     string `json:"sni,omitempty"`     // the server name by which it chose the service port
	Before  int    `json:"connectionsBefore"`
	After   int    `json:"connectionsAfter"`
}

// Server is who answered, in its own words, and the caller as its proxy told it.
type Server struct {
	Service  string `json:"service"`
	Cluster  string `json:"cluster"`
	Pod      string `json:"pod"`
	Version  string `json:"version"`
	Identity string `json:"identity,omitempty"` // that its proxy showed to the caller
	Caller   struct {
		ID      string `json:"id"`
		Cluster string `json:"cluster"`
		By      string `json:"by"`
		Problem string `json:"problem,omitempty"`
	} `json:"caller"`
}

// complete reports whether the request went the whole way and the identity arrived.
func (p Path) complete() bool {
	return p.Status == 200 && len(p.Problems) == 0 && p.Server.Caller.ID != "" && p.Server.Caller.Cluster == p.Client.Cluster && p.Server.Cluster == p.Gateway.Cluster
}

// Follow sends one request from the client of east and gathers what those on its
// way say. An error says that the request itself failed.
func Follow(ctx context.Context, east, west *cluster.Cluster, target string) (Path, error) {
	path := Path{URL: target, Gateway: Passage{Cluster: west.Context}}
	client, err := clientPod(ctx, east)
	if err != nil {
		return path, err
	}
	path.Client = Client{Cluster: east.Context, Pod: client.Name, Address: client.Status.PodIP}
	path.Proxy.Container = "isthmus-proxy"
	problem := func(what string, err error) {
		if err != nil {
			path.Problems = append(path.Problems, fmt.Sprintf("%s: %v", what, err))
		}
	}
	problem("gateway before", path.Gateway.count(ctx, west, &path.Gateway.Before))
	if err := path.ask(ctx, east, client, target); err != nil {
		return path, err
	}
	problem("gateway after", path.Gateway.count(ctx, west, &path.Gateway.After))
	problem("the client's proxy", path.readProxy(ctx, east, client, target))
	path.check(east.Context, west.Context)
	return path, nil
}

func clientPod(ctx context.Context, c *cluster.Cluster) (*corev1.Pod, error) {
	pods, err := c.Pods(ctx, Namespace, "app=client")
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no client pod is running in %s/%s", c.Context, Namespace)
	}
	return &pods[0], nil
}

// ask sends the request; the first may come before the configuration, so it is
// tried again for a while. Until a client's proxy knows the name it passes the
// connection through, and the entry gateway takes it as that of any pod.
func (p *Path) ask(ctx context.Context, c *cluster.Cluster, client *corev1.Pod, target string) error {
	ctx, cancel := context.WithTimeout(ctx, firstRequestPatience)
	defer cancel()
	meshed := client.Annotations[api.AnnotationInjected] != ""
	return cluster.Until(ctx, "an answer of "+target, func(ctx context.Context) (string, error) {
		out, err := c.Output(ctx, Namespace, client.Name, "client", "/isthmus-samples", "get", target)
		if err != nil {
			return "", err
		}
		var answer struct {
			Status int
			MS     float64
			Body   json.RawMessage
		}
		if err := json.Unmarshal(out, &answer); err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		if answer.Status != 200 {
			return fmt.Sprintf("status %d: %.200s", answer.Status, answer.Body), nil
		}
		var body struct{ Served Server }
		if err := json.Unmarshal(answer.Body, &body); err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		if meshed && strings.HasSuffix(body.Served.Caller.ID, "/ns/"+api.SystemNamespace+"/sa/"+api.EntryName) {
			return "it came through the entry gateway", nil
		}
		p.Status, p.Millis, p.Server = answer.Status, answer.MS, body.Served
		p.Server.Identity = p.Server.Caller.By
		return "", nil
	})
}

// check says what is not as it should be.
func (p *Path) check(east, west string) {
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{p.Server.Cluster != west, fmt.Sprintf("the server says that it is in %q, not in %s", p.Server.Cluster, west)},
		{p.Server.Caller.ID == "", "the server was told of no caller: the request came without mTLS"},
		{p.Server.Caller.ID != "" && p.Server.Caller.Cluster != east, fmt.Sprintf("the caller's certificate names the cluster %q, not %s", p.Server.Caller.Cluster, east)},
		{p.Client.Identity != "" && p.Client.Identity != p.Server.Caller.ID, "the server saw another identity than the client's proxy has"},
		{p.Proxy.Via != "gateway", fmt.Sprintf("the client's proxy sends there via %q", p.Proxy.Via)},
		{p.Gateway.After <= p.Gateway.Before, "the gateway counted no new connection for the request"},
	} {
		if c.bad {
			p.Problems = append(p.Problems, c.text)
		}
	}
}

// listenerName is the name under which proxies know a port of a clusterset service.
func listenerName(target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return "outbound|" + port + "||" + u.Hostname(), nil
}

// gatewayPod returns a pod of the east-west gateway.
func gatewayPod(ctx context.Context, c *cluster.Cluster) (*corev1.Pod, error) {
	pods, err := c.Pods(ctx, api.SystemNamespace, "app="+api.EastWestName)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no gateway pod is running in %s", c.Context)
	}
	return &pods[0], nil
}
