package controllers

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

// Keys of the ConfigMap api.EntryRetiredName: a line "WHAT SECONDS KEY" for each,
// where WHAT is a port or an address, SECONDS the Unix time since when it rests,
// and KEY, which may be missing, who gets it back at once.
const (
	retiredEntryKey     = "entry-ports"
	retiredSyntheticKey = "synthetic-addresses"
)

// maxRetiredBytes bounds each of the two lists, so that the object stays within
// the API server's mebibyte. Over it, they are kept without their keys.
const maxRetiredBytes = 400 << 10

// retired is what rests: ports, and offsets of addresses.
type retired struct{ Entry, Synthetic []allot.Rested }

// ledger keeps what rests beyond one term.
type ledger interface {
	// write notes r, and returns what somebody else has noted there since.
	write(ctx context.Context, r retired) (others retired, err error)
}

// configMapLedger is the ledger in the local cluster. It is its only writer: what
// another has written since is kept as well.
type configMapLedger struct {
	local     *Local
	namespace string
	range4    range4
	have      *corev1.ConfigMap // as last read or written; nil: absent
}

// read returns what rests, from the API server and not from a cache.
func (l *configMapLedger) read(ctx context.Context) (retired, error) {
	l.have = nil
	var have corev1.ConfigMap
	found, err := present(l.local.Direct.Get(ctx, objectKey{Namespace: l.namespace, Name: api.EntryRetiredName}, &have))
	if err != nil || !found {
		return retired{}, err
	}
	l.have = &have
	return retired{parseRested(have.Data[retiredEntryKey], portWords()), parseRested(have.Data[retiredSyntheticKey], l.range4.words())}, nil
}

func (l *configMapLedger) write(ctx context.Context, r retired) (retired, error) {
	var found retired
	for try := 0; ; try++ {
		err := l.put(ctx, r)
		if try == 5 || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return found, err
		}
		if found, err = l.read(ctx); err != nil {
			return retired{}, err
		}
		r.Entry, r.Synthetic = joinRested(r.Entry, found.Entry), joinRested(r.Synthetic, found.Synthetic)
	}
}

func (l *configMapLedger) put(ctx context.Context, r retired) error {
	out := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: api.EntryRetiredName, Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}}}
	entry, err := formatRested(r.Entry, portWords())
	if err != nil {
		return fmt.Errorf("entry ports: %w", err)
	}
	synthetic, err := formatRested(r.Synthetic, l.range4.words())
	if err != nil {
		return fmt.Errorf("synthetic addresses: %w", err)
	}
	out.Data = map[string]string{retiredEntryKey: entry, retiredSyntheticKey: synthetic}
	if l.have == nil {
		err = l.local.Create(ctx, out)
	} else {
		out.ResourceVersion = l.have.ResourceVersion
		err = l.local.Update(ctx, out, client.FieldOwner(FieldOwner))
	}
	if err == nil {
		l.have = out
	}
	return err
}

// joinRested adds to ours what only theirs has.
func joinRested(ours, theirs []allot.Rested) []allot.Rested {
	known := map[int]bool{}
	for _, r := range ours {
		known[r.Number] = true
	}
	out := slices.Clone(ours)
	for _, r := range theirs {
		if !known[r.Number] {
			out = append(out, r)
		}
	}
	return out
}

// words turn numbers into text and back.
type words struct {
	text  func(int) string
	parse func(string) (int, bool)
}

func portWords() words {
	return words{strconv.Itoa, func(text string) (int, bool) {
		n, err := strconv.ParseUint(text, 10, 16)
		return int(n), err == nil && n > 0
	}}
}

// formatRested writes what parseRested reads. The error says that there is too
// much: whoever gives something up then waits for the rest of others to end.
func formatRested(all []allot.Rested, w words) (string, error) {
	text := linesOf(all, w, true)
	if len(text) <= maxRetiredBytes {
		return text, nil
	}
	if text = linesOf(all, w, false); len(text) > maxRetiredBytes {
		return "", fmt.Errorf("%d rest, which is more than can be noted", len(all))
	}
	return text, nil
}

func linesOf(all []allot.Rested, w words, keys bool) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %d", w.text(r.Number), r.Since.Unix())
		if r.Key != "" && keys {
			b.WriteString(" " + r.Key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// parseRested reads as much as is in order: one bad line costs no other.
func parseRested(text string, w words) []allot.Rested {
	var out []allot.Rested
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 && len(fields) != 3 {
			continue
		}
		number, ok := w.parse(fields[0])
		since, err := strconv.ParseUint(fields[1], 10, 40)
		if !ok || err != nil {
			continue
		}
		r := allot.Rested{Number: number, Since: time.Unix(int64(since), 0)}
		if len(fields) == 3 {
			r.Key = fields[2]
		}
		out = append(out, r)
	}
	return out
}
