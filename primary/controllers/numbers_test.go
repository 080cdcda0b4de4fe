package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func fixed() metav1.Time { return metav1.NewTime(noon) }

// book is a ledger in memory.
type book struct {
	retired
	err     error
	tooLong unnoted
	writes  int
}

func (b *book) write(_ context.Context, r retired) (retired, unnoted, error) {
	if b.err != nil {
		return retired{}, unnoted{}, b.err
	}
	b.retired, b.writes = r, b.writes+1
	return retired{}, b.tooLong, nil
}

func ports(numbers ...uint16) wanted {
	out := wanted{Ports: map[uint16]federation.ClusterName{}}
	for _, n := range numbers {
		out.Ports[n] = []federation.ClusterName{"west", "north"}[n%2]
	}
	return out
}

// What is given up is in the ledger before settle says that its user may go on,
// and not given to others; while the ledger cannot be written, nobody may.
func TestSettle(t *testing.T) {
	b := &book{}
	n := newNumbers(api.PortRange{First: 20000, Last: 20001}, range4{netip.MustParsePrefix("240.241.0.0/16")}, b)
	x, y := objectKey{Namespace: "a", Name: "x"}, objectKey{Namespace: "a", Name: "y"}
	first, noted := n.settle(x, ports(80, 81), noon)
	if !noted || len(first.Entry) != 2 || len(first.Short) != 0 {
		t.Fatalf("%+v, %v", first, noted)
	}
	second, noted := n.settle(y, ports(80), noon)
	if !noted || len(second.Entry) != 0 || len(second.Short) != 1 || second.Short[0].Reason != reasonEntryPortsUsedUp || !strings.Contains(second.Short[0].Message, "20000-20001") ||
		!strings.Contains(second.Short[0].Message, "entry.ports") {
		t.Fatalf("%+v, %v", second, noted)
	}
	b.err = errors.New("no API server")
	for range 2 { // again is no way around it
		if _, noted := n.settle(x, ports(81), noon); noted {
			t.Fatal("given up without a note")
		}
		if keys, err := n.save(t.Context(), noon); !errors.Is(err, b.err) || len(keys) != 0 {
			t.Fatalf("%v, %v", keys, err)
		}
	}
	b.err = nil
	if keys, err := n.save(t.Context(), noon); err != nil || !slices.Equal(keys, []objectKey{x}) {
		t.Fatalf("%v, %v", keys, err)
	}
	if got, noted := n.settle(x, ports(81), noon); !noted || got.Entry[81] != first.Entry[81] {
		t.Fatalf("%+v, %v", got, noted)
	}
	if keys, err := n.save(t.Context(), noon); err != nil || len(keys) != 0 || b.writes != 1 {
		t.Fatalf("%v, %v, %d writes", keys, err, b.writes)
	}
	if len(b.Entry) != 1 || b.Entry[0].Number != int(first.Entry[80]) || b.Entry[0].Key != "a/x/80" {
		t.Fatalf("ledger %+v", b.Entry)
	}
	if second, _ = n.settle(y, ports(80), noon.Add(24*time.Hour)); len(second.Entry) != 0 {
		t.Fatalf("%v is given within 25 h", second.Entry)
	}
	if second, _ = n.settle(y, ports(80), noon.Add(25*time.Hour)); second.Entry[80] != first.Entry[80] {
		t.Fatalf("%+v", second)
	}
}

// Thousands that give up at once cost a few writes, and each may go on.
func TestSettleTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		n := newNumbers(api.PortRange{First: 20000, Last: 29999}, range4{}, b)
		const all = 5000
		key := func(i int) objectKey { return objectKey{Namespace: "a", Name: fmt.Sprintf("svc-%d", i)} }
		for i := range all {
			n.settle(key(i), ports(80), noon)
		}
		ctx, cancel := context.WithCancel(t.Context())
		on, ended := 0, make(chan struct{})
		go func() {
			defer close(ended)
			n.run(ctx, func(k objectKey) {
				if _, noted := n.settle(k, wanted{}, time.Now()); noted {
					on++
				}
			}, func(err error) { t.Error(err) })
		}()
		for i := range all {
			if _, noted := n.settle(key(i), wanted{}, time.Now()); noted {
				on++
			}
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		cancel()
		<-ended
		if on != all || b.writes > 12 || len(b.Entry) != all {
			t.Errorf("%d go on, %d writes, %d rest", on, b.writes, len(b.Entry))
		}
	})
}

func TestSettlePods(t *testing.T) {
	b := &book{}
	n := newNumbers(api.PortRange{}, range4{netip.MustParsePrefix("240.241.0.0/29")}, b)
	key := objectKey{Namespace: "a", Name: "db"}
	want := wanted{Pods: map[podOf]bool{}}
	for i := range 8 {
		want.Pods[podOf{[]federation.ClusterName{"west", "north"}[i%2], fmt.Sprintf("db-%d", i)}] = true
	}
	got, noted := n.settle(key, want, noon)
	if !noted || len(got.Synthetic) != 6 || len(got.Short) != 1 || !strings.Contains(got.Short[0].Message, "2 pods") || !strings.Contains(got.Short[0].Message, "240.241.0.0/29") {
		t.Fatalf("%+v, %v", got, noted)
	}
	addrs := slices.SortedFunc(maps.Values(got.Synthetic), netip.Addr.Compare)
	if addrs[0].String() != "240.241.0.1" || addrs[5].String() != "240.241.0.6" || len(slices.Compact(addrs)) != 6 {
		t.Errorf("addresses %v", addrs)
	}
	n.settle(key, wanted{}, noon)
	if _, err := n.save(t.Context(), noon); err != nil || len(b.Synthetic) != 6 || len(n.imports()) != 0 {
		t.Errorf("given up: %v, %+v, %v", err, b.Synthetic, n.imports())
	}
}

// One cluster's exports do not use up a range: not in one import, nor in many, nor
// by coming and going. What it does not get is told, with its name and its share.
func TestShares(t *testing.T) {
	n := newNumbers(api.PortRange{First: 20000, Last: 20999}, range4{netip.MustParsePrefix("240.241.0.0/28")}, &book{})
	of := func(cluster federation.ClusterName, ports int) wanted {
		out := wanted{Ports: map[uint16]federation.ClusterName{}, Pods: map[podOf]bool{}}
		for i := range ports {
			out.Ports[uint16(i+1)] = cluster
			out.Pods[podOf{cluster, fmt.Sprintf("db-%d", i)}] = true
		}
		return out
	}
	told := func(g given, reason string, words ...string) {
		t.Helper()
		i := slices.IndexFunc(g.Short, func(p federation.Problem) bool { return p.Reason == reason })
		if i < 0 {
			t.Fatalf("%s is not told: %+v", reason, g.Short)
		}
		for _, w := range words {
			if !strings.Contains(g.Short[i].Message, w) {
				t.Errorf("%q is not in %q", w, g.Short[i].Message)
			}
		}
	}
	key := func(name string) objectKey { return objectKey{Namespace: "a", Name: name} }
	wide, _ := n.settle(key("wide"), of("west", 300), noon)
	if len(wide.Entry) != 256 || len(wide.Synthetic) != 7 {
		t.Errorf("%d ports, %d addresses", len(wide.Entry), len(wide.Synthetic))
	}
	told(wide, reasonEntryPortsUsedUp, "west", "256", "and 43 more")
	told(wide, reasonSyntheticUsedUp, "293 pods", "for west: its share is 7")
	second, _ := n.settle(key("second"), of("west", 256), noon)
	if len(second.Entry) != 244 {
		t.Errorf("%d more ports for west", len(second.Entry))
	}
	told(second, reasonEntryPortsUsedUp, "for west: its share is 500")
	n.settle(key("second"), wanted{}, noon)
	if third, _ := n.settle(key("third"), of("west", 1), noon); len(third.Entry) != 0 {
		t.Error("what rests is of nobody's share")
	}
	if other, _ := n.settle(key("other"), of("north", 7), noon); len(other.Entry) != 7 || len(other.Synthetic) != 7 || len(other.Short) != 0 {
		t.Errorf("nothing is left for another: %+v", other)
	}
}

func TestRange4(t *testing.T) {
	for _, text := range []string{"240.241.0.0/16", "10.255.255.0/24", "0.0.0.0/0", "240.241.7.9/20"} {
		r := range4{netip.MustParsePrefix(text)}
		for _, n := range []int{1, 2, r.last()} {
			if back, ok := r.offset(r.at(n)); !ok || back != n {
				t.Errorf("%s: %d is %s is %d, %v", text, n, r.at(n), back, ok)
			}
		}
	}
	for _, none := range []range4{{}, {netip.MustParsePrefix("fd00::/64")}, {netip.MustParsePrefix("10.0.0.0/31")}} {
		if _, ok := none.offset(netip.MustParseAddr("10.0.0.1")); ok || none.last() != 0 {
			t.Errorf("%v has addresses", none.prefix)
		}
	}
	if _, ok := (range4{netip.MustParsePrefix("240.241.0.0/16")}).offset(netip.MustParseAddr("fd00::1")); ok {
		t.Error("another family")
	}
}

func TestRetiredBounds(t *testing.T) {
	var all []allot.Rested
	long := strings.Repeat("n", 63)
	for i := range 10000 {
		all = append(all, allot.Rested{Number: 20000 + i, Key: long + "/" + long + "/65535", Since: noon})
	}
	text, err := formatRested(all, portWords())
	if err != nil || len(text) > maxRetiredBytes {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if back := parseRested(text, portWords()); len(back) != len(all) || back[7].Number != 20007 || !back[7].Since.Equal(noon) {
		t.Errorf("%d come back: %+v", len(back), back[7])
	}
	words := range4{netip.MustParsePrefix("240.240.0.0/12")}.words()
	for i := range 200000 {
		all = append(all, allot.Rested{Number: 100000 + 3*i*(i%2+1), Since: noon.Add(time.Duration(i) * time.Minute)})
	}
	if _, err := formatRested(all, words); err == nil {
		t.Error("more than an object holds")
	}
}

// checkTogether expects each number of all, of those that are there twice one, to
// come back from lines that hold many.
func checkTogether(t *testing.T, all []allot.Rested, w words) {
	t.Helper()
	type fact struct {
		number int
		since  int64
		owner  string
	}
	facts := func(all []allot.Rested) map[fact]bool {
		out := map[fact]bool{}
		for _, r := range all {
			out[fact{r.Number, r.Since.Unix(), r.Owner}] = true
		}
		return out
	}
	if want, got := facts(all), facts(parseRested(linesTogether(all, w, time.Second), w)); !maps.Equal(want, got) {
		t.Errorf("%v became %v", want, got)
	}
}

// All addresses of a /16 may rest, given up by two clusters at any time, and none
// is given early.
func TestWholeRangeRests(t *testing.T) {
	r := range4{netip.MustParsePrefix("240.241.0.0/16")}
	dice := rand.New(rand.NewPCG(3, 4))
	var all []allot.Rested
	for n := 1; n <= r.last(); n++ {
		since := noon.Add(-time.Duration(dice.IntN(600)) * time.Second)
		all = append(all, allot.Rested{Number: n, Key: "shop/db/west/db-" + fmt.Sprint(n), Owner: []string{"west", strings.Repeat("n", 63)}[dice.IntN(2)], Since: since})
	}
	text, err := formatRested(all, r.words())
	if err != nil || len(text) > maxRetiredBytes {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	back := parseRested(text, r.words())
	slices.SortFunc(back, func(a, b allot.Rested) int { return a.Number - b.Number })
	for i, b := range back {
		if late := b.Since.Sub(all[i].Since); b.Number != all[i].Number || b.Owner != all[i].Owner || late < 0 || late >= time.Minute {
			t.Fatalf("%+v became %+v", all[i], b)
		}
	}
	if len(back) != len(all) {
		t.Errorf("%d of %d come back", len(back), len(all))
	}
}

// A ledger that has no room for addresses holds up those alone who give some up.
func TestOneListTooLong(t *testing.T) {
	b := &book{tooLong: unnoted{Synthetic: errors.New("65534 rest")}}
	n := newNumbers(api.PortRange{First: 20000, Last: 20099}, range4{netip.MustParsePrefix("240.241.0.0/16")}, b)
	x, y := objectKey{Namespace: "a", Name: "x"}, objectKey{Namespace: "a", Name: "y"}
	n.settle(x, ports(80), noon)
	n.settle(y, wanted{Pods: map[podOf]bool{{"west", "db-0"}: true}}, noon)
	for _, key := range []objectKey{x, y} {
		if _, noted := n.settle(key, wanted{}, noon); noted {
			t.Errorf("%v goes on before it is noted", key)
		}
	}
	if keys, err := n.save(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "65534 rest") || !slices.Equal(keys, []objectKey{x}) {
		t.Fatalf("%v go on, %v", keys, err)
	}
	if _, noted := n.settle(x, wanted{}, noon); !noted {
		t.Error("who gave up a port waits for others' addresses")
	}
	if _, noted := n.settle(y, wanted{}, noon); noted {
		t.Error("an address is given up without a note")
	}
	b.tooLong = unnoted{}
	if keys, err := n.save(t.Context(), noon); err != nil || !slices.Equal(keys, []objectKey{y}) {
		t.Errorf("%v go on, %v", keys, err)
	}
}

// FuzzParseRested reads anything, and what it has read comes back as it was.
func FuzzParseRested(f *testing.F) {
	f.Add("20001 1700000000 shop/reviews/80\n20002 1700000000\n")
	f.Add("@1700000000 west 20001,1,5x3\n@1700000000 - 20,1x99999999\n20003 1700000000 - west")
	f.Add("240.241.0.1 1700000000 shop/db/west/db-0\nx\n1 2 3 4")
	f.Fuzz(func(t *testing.T, text string) {
		for _, w := range []words{portWords(), range4{netip.MustParsePrefix("240.241.0.0/16")}.words()} {
			read := parseRested(text, w)
			again := parseRested(linesOf(read, w), w)
			checkTogether(t, read, w)
			if !slices.EqualFunc(read, again, func(a, b allot.Rested) bool {
				return a.Number == b.Number && a.Key == b.Key && a.Owner == b.Owner && a.Since.Equal(b.Since)
			}) {
				t.Errorf("%+v became %+v", read, again)
			}
		}
	})
}
