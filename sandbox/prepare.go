package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// readyTimeout bounds how long a cluster may take, on a busy machine.
const readyTimeout = 3 * time.Minute

// prepare makes the clusters ready to use. It may be called again.
func (s *Sandbox) prepare(ctx context.Context, opts Options, report func(cluster, step string)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := s.waitForFiles(ctx); err != nil {
		return err
	}
	if err := s.writeKubeconfig(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range s.state.Plan.Clusters {
		group.Go(func() error {
			err := s.prepareCluster(ctx, c, opts.Bare, func(step string) { report(c.Name, step) })
			if err != nil {
				return fmt.Errorf("cluster %s: %w; logs are in %s", c.Name, err, filepath.Join(s.dir, plan.LogDir))
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *Sandbox) waitForFiles(ctx context.Context) error {
	return poll(ctx, "certificates", func() error {
		for _, c := range s.state.Plan.Clusters {
			if _, err := os.Stat(s.adminKubeconfig(c.Name)); errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func (s *Sandbox) prepareCluster(ctx context.Context, c plan.Cluster, bare bool, report func(step string)) error {
	config, err := s.Config(c.Name)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := waitForAPI(ctx, client); err != nil {
		return err
	}
	report("API server answers")
	if !bare {
		if err := installAddOns(ctx, config, c); err != nil {
			return err
		}
	}
	if err := waitForNode(ctx, client, c.NodeName); err != nil {
		return err
	}
	report("node is ready")
	if bare {
		return nil
	}
	if err := waitForCoreDNS(ctx, client); err != nil {
		return err
	}
	report("CoreDNS is ready")
	return nil
}

// WaitReady waits until cluster's API server answers and its node is ready.
func (s *Sandbox) WaitReady(ctx context.Context, cluster string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c, ok := s.state.Plan.Cluster(cluster)
	if !ok {
		return fmt.Errorf("no cluster %q", cluster)
	}
	config, err := s.Config(cluster)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := waitForAPI(ctx, client); err != nil {
		return err
	}
	return waitForNode(ctx, client, c.NodeName)
}

func waitForAPI(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, "API server", func() error {
		// What the bootstrap makes last before objects can be written.
		_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		return err
	})
}

func waitForNode(ctx context.Context, client kubernetes.Interface, name string) error {
	return poll(ctx, "node "+name, func() error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("not ready")
	})
}

func waitForCoreDNS(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, "CoreDNS", func() error {
		deployment, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if deployment.Status.ReadyReplicas == 0 {
			return errors.New("no replica is ready")
		}
		return nil
	})
}

// poll tries until it succeeds or ctx ends.
func poll(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
