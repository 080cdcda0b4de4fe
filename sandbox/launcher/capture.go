package launcher

import (
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// snapLen holds the largest packet: offloading makes them longer than the MTU.
const snapLen = 1 << 18

// capture streams what nodes send over the underlay, as a pcap file, until
// the caller goes away. Each packet appears once.
func capture(w http.ResponseWriter, r *http.Request) {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ALL)))
	if err != nil {
		http.Error(w, "open packet socket: "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer unix.Close(socket)
	_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	timeout := unix.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ports, err := nodePorts()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	flush := http.NewResponseController(w)
	if _, err := w.Write(pcapHeader()); err != nil {
		return
	}
	_ = flush.Flush() // the caller knows now that packets are seen
	packet := make([]byte, snapLen)
	for r.Context().Err() == nil {
		n, from, err := unix.Recvfrom(socket, packet, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			_ = flush.Flush()
			continue
		}
		if err != nil {
			return
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || !ports[link.Ifindex] || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if _, err := w.Write(append(packetHeader(time.Now(), n), packet[:n]...)); err != nil {
			return
		}
	}
}

// nodePorts are the indexes of the underlay's ends of the nodes' devices.
func nodePorts() (map[int]bool, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, device := range devices {
		if strings.HasPrefix(device.Name, "node") {
			ports[device.Index] = true
		}
	}
	return ports, nil
}

func pcapHeader() []byte {
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
