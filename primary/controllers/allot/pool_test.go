package allot

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func take(t *testing.T, p *Pool, key string, now time.Time) int {
	t.Helper()
	n, err := p.Take(key, "", now)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Keys whose searches start at different numbers get the same ones in any order.
func TestOrderDoesNotMatter(t *testing.T) {
	starts, keys := map[int]bool{}, []string{}
	for i := 0; len(keys) < 50; i++ {
		key := fmt.Sprintf("shop/svc-%d/80", i)
		if at := New(20000, 29999, time.Hour).Start(key); !starts[at] {
			starts[at] = true
			keys = append(keys, key)
		}
	}
	var want map[string]int
	for range 20 {
		p, got := New(20000, 29999, time.Hour), map[string]int{}
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, key := range keys {
			got[key] = take(t, p, key, noon)
		}
		if want == nil {
			want = got
		}
		if !maps.Equal(got, want) {
			t.Fatalf("another order gives other numbers: %v, %v", got, want)
		}
	}
}

func TestRest(t *testing.T) {
	p := New(1, 2, time.Hour)
	a := take(t, p, "a", noon)
	p.Give("a", noon)
	if again := take(t, p, "a", noon); again != a {
		t.Errorf("a had %d and gets %d", a, again)
	}
	p.Give("a", noon)
	b := take(t, p, "b", noon)
	if b == a {
		t.Errorf("b gets %d, which rests", b)
	}
	_, err := p.Take("c", "", noon.Add(time.Minute))
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "1-2") {
		t.Errorf("exhausted: %v", err)
	}
	if c := take(t, p, "c", noon.Add(time.Hour)); c != a {
		t.Errorf("c gets %d, not the one that has rested", c)
	}
	if back, err := p.Take("a", "", noon.Add(time.Hour)); err == nil {
		t.Errorf("a gets %d back, which is c's", back)
	}
}

func TestSeed(t *testing.T) {
	p := New(10, 19, time.Hour)
	if !p.Hold("a", "", 10) || !p.Hold("a", "", 10) || p.Hold("a", "", 11) || p.Hold("b", "", 10) || p.Hold("c", "", 20) || p.Hold("c", "", 9) {
		t.Error("what may be kept")
	}
	p.Rest(Rested{11, "d", "", noon}, noon)
	p.Rest(Rested{10, "e", "", noon}, noon)                     // held
	p.Rest(Rested{12, "f", "", noon.Add(-time.Hour)}, noon)     // has rested
	p.Rest(Rested{13, "g", "", noon.Add(24 * time.Hour)}, noon) // a clock that was ahead
	var resting []int
	for _, r := range p.Resting() {
		resting = append(resting, r.Number)
	}
	if !slices.Equal(resting, []int{11, 13}) {
		t.Errorf("resting %v", resting)
	}
	if p.Hold("x", "", 11); len(p.Resting()) != 1 {
		t.Error("what is held does not rest")
	}
	if !p.Wake(noon.Add(time.Hour)) || len(p.Resting()) != 0 || p.Wake(noon.Add(time.Hour)) {
		t.Error("not woken")
	}
	if d := take(t, p, "a", noon); d != 10 {
		t.Errorf("a has %d", d)
	}
	empty := New(1, 0, time.Hour)
	if _, err := empty.Take("a", "", noon); !errors.Is(err, ErrExhausted) || empty.Hold("a", "", 0) {
		t.Error("an empty range gives numbers")
	}
}

// A range that is full of what rests is not looked through for every key that
// asks: neither before the first may wake nor, but once, after.
func TestFullOfResting(t *testing.T) {
	const size = 1 << 16
	p := New(1, size, 10*time.Minute)
	for i := range size {
		p.Rest(Rested{Number: i + 1, Since: noon.Add(time.Duration(i) * time.Millisecond)}, noon.Add(2*time.Minute))
	}
	at, began := noon.Add(2*time.Minute), time.Now()
	for i := range 5000 {
		if n, err := p.Take(fmt.Sprintf("key-%d", i), "", at); err == nil {
			t.Fatalf("%d is given, which rests", n)
		}
	}
	if took := time.Since(began); took > 5*time.Second { // with a search each: 50 s
		t.Errorf("5000 refusals took %v", took)
	}
	at = noon.Add(10*time.Minute + 4500*time.Microsecond)
	for i := range 6 {
		n, err := p.Take(fmt.Sprintf("key-%d", i), "", at)
		if (err == nil) != (i < 5) || n > 5 {
			t.Errorf("key %d gets %d, %v; five have rested", i, n, err)
		}
	}
}

// Numbers that rest from a wider range take no place in this one.
func TestRestOutside(t *testing.T) {
	p := New(10, 11, time.Hour)
	for _, n := range []int{5, 6, 7, 11} {
		p.Rest(Rested{Number: n, Since: noon}, noon)
	}
	if n := take(t, p, "a", noon); n != 10 {
		t.Errorf("a gets %d", n)
	}
	p.Rest(Rested{Number: 11, Since: noon.Add(-30 * time.Minute)}, noon)
	if n := take(t, p, "b", noon.Add(30*time.Minute)); n != 11 || len(p.Resting()) != 3 {
		t.Errorf("b gets %d, %v rest", n, p.Resting())
	}
}

// Nobody gets more than half of the numbers, with those that rest, however often
// he comes and goes; what he has had comes back, and others find the rest.
func TestShare(t *testing.T) {
	p := New(1, 10, time.Hour)
	p.Halve()
	get := func(key, owner string, now time.Time) bool {
		_, err := p.Take(key, owner, now)
		if err != nil && !strings.Contains(err.Error(), "for west: its share is 5") {
			t.Error(err)
		}
		return err == nil
	}
	for i := range 5 {
		if !get(fmt.Sprintf("w%d", i), "west", noon) {
			t.Fatalf("number %d of five is refused", i)
		}
	}
	if get("w5", "west", noon) {
		t.Error("a sixth is given")
	}
	p.Give("w0", noon)
	if get("w5", "west", noon.Add(time.Minute)) {
		t.Error("what rests is of nobody's share")
	}
	if !get("w0", "west", noon.Add(time.Minute)) || !get("n0", "north", noon) {
		t.Error("a number that comes back, or another's, is refused")
	}
	p.Give("w0", noon.Add(time.Minute))
	if !get("w5", "west", noon.Add(61*time.Minute)) {
		t.Error("what has rested is of a share")
	}
	if !get("w5", "north", noon.Add(61*time.Minute)) || !get("w6", "west", noon.Add(61*time.Minute)) {
		t.Error("a number that has gone to another owner is of the old one's share")
	}
}

// FuzzPool takes and gives in any sequence: no number is held twice, none that
// rests for one key is another's, whoever returns gets his own back, and none is
// refused while one is free.
func FuzzPool(f *testing.F) {
	f.Add([]byte{0, 1, 2, 130, 3, 4, 131, 200, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, steps []byte) {
		const size, rest = 7, 10 * time.Minute
		p, now := New(100, 99+size, rest), noon
		held, gone := map[string]int{}, map[int]Rested{}
		for _, step := range steps {
			key := fmt.Sprintf("key-%d", step%13)
			if step >= 250 {
				now = now.Add(time.Duration(step-249) * time.Minute)
			} else if step >= 128 {
				if number, ok := held[key]; ok != p.Give(key, now) {
					t.Fatalf("%s gives up what it does not hold", key)
				} else if ok {
					delete(held, key)
					gone[number] = Rested{number, key, "", now}
				}
			} else {
				check(t, p, key, held, gone, now, rest, size)
			}
		}
	})
}

func check(t *testing.T, p *Pool, key string, held map[string]int, gone map[int]Rested, now time.Time, rest time.Duration, size int) {
	number, err := p.Take(key, "", now)
	if err != nil {
		busy := len(held)
		for _, r := range gone {
			if now.Sub(r.Since) < rest {
				busy++
			}
		}
		if busy < size {
			t.Fatalf("refused while %d of %d are busy: %v", busy, size, err)
		}
		return
	}
	if had, ok := held[key]; ok && had != number {
		t.Fatalf("%s had %d and has %d", key, had, number)
	}
	for other, n := range held {
		if n == number && other != key {
			t.Fatalf("%d is held by %s and %s", number, other, key)
		}
	}
	for n, r := range gone {
		if now.Sub(r.Since) < rest && (r.Key == key) != (n == number) && (n == number || r.Key == key) {
			t.Fatalf("%s gets %d at %v; resting %+v", key, number, now, r)
		}
	}
	delete(gone, number)
	held[key] = number
}
