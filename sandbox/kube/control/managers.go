package control

import (
	"context"
	"fmt"
	"path/filepath"

	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// runControllerManager runs the controllers of Kubernetes until ctx ends.
func (s *server) runControllerManager(ctx context.Context) error {
	opts, err := kcmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	kubeconfig, err := s.componentKubeconfig("controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	known, disabled, aliases := kcm.KnownControllers(), kcm.ControllersDisabledByDefault(), kcm.ControllerAliases()
	sets := opts.Flags(known, disabled, aliases)
	opts.ParsedFlags = &sets
	err = parse(sets, []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=false",
		"--service-account-private-key-file=" + filepath.Join(s.opts.Dir, "ca.key"),
		"--root-ca-file=" + filepath.Join(s.opts.Dir, "ca.crt"),
		"--cluster-signing-cert-file=" + filepath.Join(s.opts.Dir, "ca.crt"),
		"--cluster-signing-key-file=" + filepath.Join(s.opts.Dir, "ca.key"),
		"--cluster-name=" + s.opts.Name,
	})
	if err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	config, err := opts.Config(ctx, known, disabled, aliases)
	if err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	if err := kcm.Run(ctx, config.Complete()); err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	return nil
}

// runScheduler runs the scheduler until ctx ends.
func (s *server) runScheduler(ctx context.Context) error {
	opts := scheduleroptions.NewOptions()
	kubeconfig, err := s.componentKubeconfig("scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	err = parse(*opts.Flags, []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0"})
	if err != nil {
		return fmt.Errorf("kube-scheduler: %w", err)
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	config, sched, err := scheduler.Setup(ctx, opts)
	if err != nil {
		return fmt.Errorf("kube-scheduler: %w", err)
	}
	if err := scheduler.Run(ctx, config, sched); err != nil {
		return fmt.Errorf("kube-scheduler: %w", err)
	}
	return nil
}

// componentKubeconfig writes a kubeconfig with every right: a
// controller-manager that has one client for all its controllers needs that.
func (s *server) componentKubeconfig(name, user string) (string, error) {
	path := filepath.Join(s.opts.Dir, name+".kubeconfig")
	return path, s.pki.WriteKubeconfig(path, s.opts.Name, s.url(), user, "system:masters")
}
