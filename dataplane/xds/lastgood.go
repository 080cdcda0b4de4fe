package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

const (
	lastGoodMagic = "isthmus-last-good-1\n"
	maxLastGood   = 256 << 20 // bytes
	saveDelay     = 500 * time.Millisecond
)

// ErrLastGood is wrapped by every error about a file that cannot be used.
var ErrLastGood = errors.New("last good configuration unusable")

// A File keeps the last good configuration of one node. It is written beside
// and renamed, and bears its own checksum, so a torn file is seen and ignored.
type File struct {
	Path string
	Node string // the node id that it belongs to
}

// Write replaces the file with responses, one for each type.
func (f *File) Write(responses []*discoveryv3.DeltaDiscoveryResponse) error {
	data, err := encodeLastGood(f.Node, responses)
	if err != nil {
		return fmt.Errorf("encode last good configuration: %w", err)
	}
	return replace(f.Path, data)
}

// Read returns what Write wrote; os.ErrNotExist when there is none.
func (f *File) Read() ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxLastGood+1))
	if err != nil {
		return nil, err
	}
	return decodeLastGood(f.Node, data)
}

// encodeLastGood: magic, SHA-256 of the rest, then node and messages, each
// preceded by its length as a varint.
func encodeLastGood(node string, responses []*discoveryv3.DeltaDiscoveryResponse) ([]byte, error) {
	body := appendBlock(nil, []byte(node))
	for _, r := range responses {
		b, err := proto.Marshal(r)
		if err != nil {
			return nil, err
		}
		body = appendBlock(body, b)
	}
	sum := sha256.Sum256(body)
	return slices.Concat([]byte(lastGoodMagic), sum[:], body), nil
}

func appendBlock(to, block []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(block))), block...)
}

func decodeLastGood(node string, data []byte) ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	if len(data) > maxLastGood {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrLastGood, maxLastGood)
	}
	rest, ok := bytes.CutPrefix(data, []byte(lastGoodMagic))
	if !ok || len(rest) < sha256.Size {
		return nil, fmt.Errorf("%w: no header", ErrLastGood)
	}
	body := rest[sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, fmt.Errorf("%w: checksum differs", ErrLastGood)
	}
	owner, body, err := nextBlock(body)
	if err != nil {
		return nil, err
	}
	if string(owner) != node {
		return nil, fmt.Errorf("%w: belongs to node %q", ErrLastGood, owner)
	}
	return decodeResponses(body)
}

func decodeResponses(body []byte) ([]*discoveryv3.DeltaDiscoveryResponse, error) {
	var out []*discoveryv3.DeltaDiscoveryResponse
	for len(body) > 0 {
		block, rest, err := nextBlock(body)
		if err != nil {
			return nil, err
		}
		r := new(discoveryv3.DeltaDiscoveryResponse)
		if err := proto.Unmarshal(block, r); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrLastGood, err)
		}
		out, body = append(out, r), rest
	}
	return out, nil
}

func nextBlock(data []byte) (block, rest []byte, err error) {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return nil, nil, fmt.Errorf("%w: cut short", ErrLastGood)
	}
	return data[size : size+int(n)], data[size+int(n):], nil
}

// replace writes data to a new file beside path, synced, and renames it.
func replace(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err = tmp.Sync(); err != nil {
		tmp.Close()
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// responses returns what is held as the responses that would bring it.
func (h *holdings) responses() []*discoveryv3.DeltaDiscoveryResponse {
	var out []*discoveryv3.DeltaDiscoveryResponse
	for _, typeURL := range Types() {
		r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		held := h.tables[typeURL].held
		for _, name := range slices.Sorted(maps.Keys(held)) {
			r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: held[name].Version, Resource: held[name].Body})
		}
		r.RemovedResources = slices.Sorted(maps.Keys(h.tables[typeURL].absent))
		out = append(out, r)
	}
	return out
}

// save writes the last good configuration where something changed.
func (c *Client) save() {
	if !c.dirty || c.opts.LastGood == nil || !c.status.Ready || c.status.LastGood {
		return
	}
	c.dirty = false
	if err := c.opts.LastGood.Write(c.held.responses()); err != nil {
		c.log.Error("keep last good configuration", "err", err)
	}
}

// mayLoad reports whether the last good could still be of use.
func (c *Client) mayLoad() bool {
	if c.opts.LastGood == nil || c.status.LastGood {
		return false
	}
	for _, t := range c.held.tables {
		if t.answered {
			return false
		}
	}
	return true
}

// loadLastGood takes the last good configuration in, unless the server has
// answered already, and reports whether it did. Each resource is checked as if
// it had just been received.
func (c *Client) loadLastGood() bool {
	if !c.mayLoad() {
		return false
	}
	responses, err := c.opts.LastGood.Read()
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			c.log.Error("read last good configuration", "err", err)
		}
		return false
	}
	c.mu.Lock()
	c.status.LastGood = true
	c.mu.Unlock()
	for _, r := range responses {
		if _, ok := c.held.tables[r.GetTypeUrl()]; ok {
			c.take(r)
		}
	}
	c.dirty = false
	c.log.Info("control plane not reached, last good configuration in use")
	return true
}
