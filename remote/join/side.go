// Package join makes and ends links: the account by which one cluster reads
// another, its token, the remote secret and the ClusterLink. It is a library for
// the CLI and, for renewal, for the control plane. Everything in it may be run
// again.
package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ExtensionInternalServer in a kubeconfig's cluster entry names the address of
// the API server that works from inside other clusters, as a JSON string.
const ExtensionInternalServer = "isthmus.dev/internal-server"

// Side is one cluster as the person who links has access to it.
type Side struct {
	Context string // for messages
	Config  *rest.Config
	Cluster string
	Network string // empty means the cluster's name
	// Server is the API server's address that works from inside the other
	// cluster, https://HOST:PORT; empty: found by InternalServer.
	Server string
}

func (s Side) client() (*kubernetes.Clientset, error) {
	client, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", s.Context, err)
	}
	return client, nil
}

func (s Side) check() error {
	if s.Config == nil || s.Cluster == "" {
		return errors.New("join: a side needs Config and Cluster")
	}
	return nil
}

// ServerOf returns what the extension ExtensionInternalServer of a context's
// cluster entry says, or "".
func ServerOf(config *clientcmdapi.Config, contextName string) string {
	entry := config.Contexts[contextName]
	if entry == nil || config.Clusters[entry.Cluster] == nil {
		return ""
	}
	unknown, ok := config.Clusters[entry.Cluster].Extensions[ExtensionInternalServer].(*runtime.Unknown)
	if !ok {
		return ""
	}
	text, err := strconv.Unquote(strings.TrimSpace(string(unknown.Raw)))
	if err != nil {
		return ""
	}
	return text
}

// internalServer returns the address for the remote secret: the one given;
// else the kubeconfig's unless it is loopback; else a node's with port 6443.
func (s Side) internalServer(ctx context.Context, client kubernetes.Interface) (string, error) {
	if s.Server != "" {
		return s.Server, nil
	}
	host := s.Config.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil {
		return "", fmt.Errorf("server of %s: %w", s.Context, err)
	}
	if !loopback(u.Hostname()) {
		return strings.TrimSuffix(host, "/"), nil
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane", Limit: 1})
	if err == nil && len(nodes.Items) == 0 {
		nodes, err = client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
	}
	if err != nil {
		return "", fmt.Errorf("list nodes of %s: %w", s.Context, err)
	}
	for i := range nodes.Items {
		for _, a := range nodes.Items[i].Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				return "https://" + net.JoinHostPort(a.Address, "6443"), nil
			}
		}
	}
	return "", fmt.Errorf("the API server of %s has the address %s, which works on this machine only, and no node says another: give the address that other clusters reach it by", s.Context, u.Host)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// ca returns the certificates that the API server's is verified by.
func (s Side) ca(ctx context.Context, client kubernetes.Interface) ([]byte, error) {
	switch {
	case len(s.Config.CAData) > 0:
		return s.Config.CAData, nil
	case s.Config.CAFile != "":
		return os.ReadFile(s.Config.CAFile)
	}
	m, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig of %s has no certificate authority, and the cluster's own cannot be read: %w", s.Context, err)
	}
	return []byte(m.Data["ca.crt"]), nil
}
