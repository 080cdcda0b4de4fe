package cri

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs do on a thread that is thrown away after it, so do may change
// the thread's namespaces, capabilities and root.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- do()
	}()
	return <-done
}

// namespaces of a pod, as descriptors; nil is the node's.
type namespaces struct {
	net, ipc, uts int
}

// newNamespaces makes namespaces that live as long as their descriptors, or
// longer while processes are in them.
func newNamespaces(hostname string) (*namespaces, error) {
	ns := &namespaces{net: -1, ipc: -1, uts: -1}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("make the pod's namespaces: %w", err)
		}
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set the pod's host name: %w", err)
		}
		for name, fd := range map[string]*int{"net": &ns.net, "ipc": &ns.ipc, "uts": &ns.uts} {
			var err error
			if *fd, err = unix.Open("/proc/thread-self/ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		ns.close()
		return nil, err
	}
	return ns, nil
}

func (ns *namespaces) close() {
	if ns == nil {
		return
	}
	for _, fd := range []*int{&ns.net, &ns.ipc, &ns.uts} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// enter moves the calling thread, which must be locked and thrown away.
func (ns *namespaces) enter() error {
	if ns == nil {
		return nil
	}
	for _, fd := range []int{ns.net, ns.ipc, ns.uts} {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("enter the pod's namespaces: %w", err)
		}
	}
	return nil
}

// in runs do in the namespaces.
func (ns *namespaces) in(do func() error) error {
	return onThread(func() error {
		if err := ns.enter(); err != nil {
			return err
		}
		return do()
	})
}
