// Package capture records what crosses a bridge, as a pcap file.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// snapLen holds the largest packet: offloading makes them longer than the MTU.
const snapLen = 1 << 18

// pause is the longest time until Stream sees that its context has ended.
const pause = 100 * time.Millisecond

// Stream writes to w what comes in at the devices with those indexes, until ctx
// ends or w refuses: that is no error. Devices that are the ports of a bridge see
// each packet once. flush is called when packets are seen from now on, and
// whenever none came for a moment. It needs CAP_NET_RAW, and sees the devices of
// its own network namespace.
func Stream(ctx context.Context, w io.Writer, ports map[int]bool, flush func()) error {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ALL)))
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	defer unix.Close(socket)
	_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	timeout := unix.NsecToTimeval(pause.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("set packet socket's timeout: %w", err)
	}
	if _, err := w.Write(fileHeader()); err != nil {
		return nil
	}
	flush()
	packet := make([]byte, snapLen)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(socket, packet, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			flush()
			continue
		}
		if err != nil {
			return fmt.Errorf("receive packet: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || !ports[link.Ifindex] || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if _, err := w.Write(append(packetHeader(time.Now(), n), packet[:n]...)); err != nil {
			return nil
		}
	}
	return nil
}

func fileHeader() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b23c4d) // nanoseconds
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, snapLen)
	return le.AppendUint32(b, 1) // Ethernet
}

func packetHeader(at time.Time, n int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(at.Unix()))
	b = le.AppendUint32(b, uint32(at.Nanosecond()))
	b = le.AppendUint32(b, uint32(n))
	return le.AppendUint32(b, uint32(n))
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }
