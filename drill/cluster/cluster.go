// Package cluster reaches one Kubernetes cluster from the outside by a kubeconfig
// context: objects, waiting, exec into pods and tunnels to their ports. Commands
// and drills stand on it.
package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ErrNoContext is wrapped by Open when the kubeconfig lacks the context.
var ErrNoContext = errors.New("no such context")

// Cluster is one cluster. Its methods may be called from any number of
// goroutines.
type Cluster struct {
	Context string // the kubeconfig context
	Config  *rest.Config
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
	// Raw is the kubeconfig that the context is of; nil where there was none.
	Raw *clientcmdapi.Config
}

// Open returns the cluster that context of the kubeconfig leads to; it does not
// dial. An empty path means $KUBECONFIG, else ~/.kube/config; an empty context
// means the current one.
func Open(path, context string) (*Cluster, error) {
	raw, err := load(path)
	if err != nil {
		return nil, err
	}
	if context == "" {
		context = raw.CurrentContext
	}
	if _, ok := raw.Contexts[context]; !ok {
		known := strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
		if known == "" {
			known = "none"
		}
		return nil, fmt.Errorf("%w: %q (known: %s)", ErrNoContext, context, known)
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*raw, context, nil, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", context, err)
	}
	c, err := New(context, config)
	if err != nil {
		return nil, err
	}
	c.Raw = raw
	return c, nil
}

// New returns the cluster of config under the name context.
func New(context string, config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", context, err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", context, err)
	}
	return &Cluster{Context: context, Config: config, Kube: kube, Dynamic: dyn}, nil
}

// Contexts returns the names of the kubeconfig's contexts, sorted.
func Contexts(path string) ([]string, error) {
	raw, err := load(path)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(raw.Contexts)), nil
}

func load(path string) (*clientcmdapi.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	raw, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return raw, nil
}
