package proxy

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// watchIdle closes both ends when neither has received anything for idle. The
// kernel is asked, because spliced bytes pass by this process.
func watchIdle(d *downstream, up *upstream.Conn, idle time.Duration) (stop func()) {
	if idle <= 0 {
		return func() {}
	}
	w := &idleWatch{idle: idle, down: d.raw, up: up.TCP}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(idle, w.check)
	return w.stop
}

type idleWatch struct {
	idle     time.Duration
	down, up net.Conn

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

func (w *idleWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	quiet := min(sinceReceived(w.down), sinceReceived(w.up))
	if quiet >= w.idle {
		_ = w.up.Close()
		_ = w.down.Close()
		return
	}
	w.timer.Reset(max(w.idle-quiet, 10*time.Millisecond))
}

// sinceReceived returns how long ago the last data came. It is zero where the
// kernel does not say.
func sinceReceived(c net.Conn) time.Duration {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	var quiet time.Duration
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			quiet = time.Duration(info.Last_data_recv) * time.Millisecond
		}
	})
	return quiet
}
