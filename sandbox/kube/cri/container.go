package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container is one program of a pod, from its creation to its removal.
type container struct {
	id      string
	sandbox *sandbox
	config  *runtimeapi.ContainerConfig
	image   *image
	created time.Time
	log     *logFile
	done    chan struct{} // closed when the program has ended

	mu       sync.Mutex
	process  *os.Process
	started  time.Time
	finished time.Time
	exitCode int32
	message  string
}

// CreateContainer takes note of a container.
func (s *Server) CreateContainer(_ context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	sb, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	config := req.GetConfig()
	ref := config.GetImage().GetUserSpecifiedImage()
	if ref == "" {
		ref = config.GetImage().GetImage()
	}
	img, err := s.lookUp(ref)
	if err != nil {
		return nil, err
	}
	c := &container{id: newID(), sandbox: sb, config: config, image: img, created: time.Now(), done: make(chan struct{})}
	if c.log, err = openLog(filepath.Join(sb.config.GetLogDirectory(), config.GetLogPath())); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.containers[c.id] = c
	s.mu.Unlock()
	return &runtimeapi.CreateContainerResponse{ContainerId: c.id}, nil
}

// StartContainer starts the program and returns when it runs, or why it does not.
func (s *Server) StartContainer(_ context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	c, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := s.start(c); err != nil {
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (s *Server) start(c *container) error {
	spec, err := s.spec(c)
	if err != nil {
		return err
	}
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer specWrite.Close()
	errorRead, errorWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer errorRead.Close()
	cmd := exec.Command(filepath.Join(s.opts.Bin, "isthmus-sandboxd"), "container")
	cmd.Env = []string{}
	stdout, stderr := c.log.stream("stdout"), c.log.stream("stderr")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{specRead, errorWrite}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Setsid: true}
	err = c.sandbox.ns.in(cmd.Start)
	specRead.Close()
	errorWrite.Close()
	if err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	c.mu.Lock()
	c.process, c.started = cmd.Process, time.Now()
	c.mu.Unlock()
	go func() {
		err := cmd.Wait()
		stdout.flush()
		stderr.flush()
		c.ended(cmd.ProcessState, err, spec.Root)
	}()
	if err := json.NewEncoder(specWrite).Encode(spec); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	specWrite.Close()
	// Ends without a word when the program runs.
	problem, _ := io.ReadAll(errorRead)
	if len(problem) > 0 {
		<-c.done
		return errors.New(string(problem))
	}
	return nil
}

// ended records how the program ended.
func (c *container) ended(state *os.ProcessState, err error, root string) {
	c.mu.Lock()
	c.finished = time.Now()
	c.exitCode = exitCode(state)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		c.message = err.Error()
	}
	c.mu.Unlock()
	c.log.close()
	_ = os.Remove(root)
	close(c.done)
}

func exitCode(state *os.ProcessState) int32 {
	if state == nil {
		return 128
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int32(ws.Signal())
	}
	return int32(state.ExitCode())
}

// stop asks the program to end and insists after grace.
func (c *container) stop(ctx context.Context, grace time.Duration) {
	c.mu.Lock()
	process := c.process
	c.mu.Unlock()
	if process == nil {
		return
	}
	if grace > 0 {
		_ = process.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
			return
		case <-ctx.Done():
		case <-time.After(grace):
		}
	}
	_ = process.Kill()
	<-c.done
}

// StopContainer ends the program.
func (s *Server) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if c, err := s.container(req.GetContainerId()); err == nil {
		c.stop(ctx, time.Duration(req.GetTimeout())*time.Second)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer forgets a container, ending it first.
func (s *Server) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	c, err := s.container(req.GetContainerId())
	if err != nil {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	c.stop(ctx, 0)
	s.mu.Lock()
	delete(s.containers, c.id)
	s.mu.Unlock()
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (c *container) state() runtimeapi.ContainerState {
	switch {
	case !c.finished.IsZero():
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case !c.started.IsZero():
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	default:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	}
}

// ListContainers lists the containers that match the filter.
func (s *Server) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	filter := req.GetFilter()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for _, c := range s.containers {
		c.mu.Lock()
		state := c.state()
		c.mu.Unlock()
		if (filter.GetId() != "" && filter.GetId() != c.id) ||
			(filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.sandbox.id) ||
			(filter.GetState() != nil && filter.GetState().GetState() != state) ||
			!selects(filter.GetLabelSelector(), c.config.GetLabels()) {
			continue
		}
		out.Containers = append(out.Containers, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
			ImageRef: c.image.repository, ImageId: c.image.repository, State: state, CreatedAt: nanos(c.created),
			Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	return out, nil
}

// ContainerStatus tells a container's state and how it ended.
func (s *Server) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state(),
		CreatedAt: nanos(c.created), StartedAt: nanos(c.started), FinishedAt: nanos(c.finished),
		ExitCode: c.exitCode, Reason: c.reason(), Message: c.message,
		Image: c.config.GetImage(), ImageRef: c.image.repository, ImageId: c.image.repository,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(),
		LogPath: c.log.path,
	}}, nil
}

func (c *container) reason() string {
	switch {
	case c.finished.IsZero():
		return ""
	case c.exitCode == 0:
		return "Completed"
	default:
		return "Error"
	}
}

// ReopenContainerLog goes on in a new file after kubelet has moved the old one.
func (s *Server) ReopenContainerLog(_ context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	c, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, c.log.reopen()
}
