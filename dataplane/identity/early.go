package identity

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/connectivity"
)

// dialControl opens a connection to isthmusd and notes whether there is nobody
// yet: its name does not resolve, or its port refuses.
func (i *Identity) dialControl(ctx context.Context, address string) (net.Conn, error) {
	dial := i.opts.Dial
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, address)
	if _, dns := errors.AsType[*net.DNSError](err); dns || errors.Is(err, syscall.ECONNREFUSED) {
		i.mu.Lock()
		i.absent = true
		i.mu.Unlock()
	}
	return conn, err
}

// sleepAfter waits for delay, or until takeBundle wakes it. Where isthmusd was
// absent, gRPC goes on dialling after firstDial, twice that, ... up to mostDial,
// and the connection ends the wait, too: then connected is true, and what went
// wrong before counts no more. Alive is false when ctx ended.
func (i *Identity) sleepAfter(ctx context.Context, delay time.Duration) (connected, alive bool) {
	i.mu.Lock()
	absent := i.absent
	i.mu.Unlock()
	if !absent {
		return false, i.sleep(ctx, delay)
	}
	watch, stop := context.WithCancel(ctx)
	ended := make(chan bool)
	go func() { ended <- i.awaitReady(watch) }()
	alive = i.sleep(ctx, delay)
	stop()
	return <-ended, alive
}

// awaitReady waits until the connection is ready and then wakes sleep; false
// means that ctx ended before.
func (i *Identity) awaitReady(ctx context.Context) bool {
	for state := i.conn.GetState(); state != connectivity.Ready; state = i.conn.GetState() {
		if !i.conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
	i.mu.Lock()
	i.absent = false
	i.mu.Unlock()
	select {
	case i.wake <- struct{}{}:
	default:
	}
	return true
}
