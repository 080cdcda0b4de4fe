package fault

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseMode(t *testing.T) {
	for _, m := range []Mode{Refuse, Drop} {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	for _, bad := range []string{"", "none", "DROP"} {
		if got, err := ParseMode(bad); err == nil {
			t.Errorf("%q is taken as %v", bad, got)
		}
	}
}

func TestCheckLife(t *testing.T) {
	for d, ok := range map[time.Duration]bool{0: false, Shortest - 1: false, Shortest: true, Longest: true, Longest + 1: false, -time.Second: false} {
		if err := CheckLife(d); (err == nil) != ok {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// A fault ends by itself unless it is renewed, and each change is applied once.
func TestSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied []Mode
		var broken error
		s := NewSwitch(func(m Mode) error {
			applied = append(applied, m)
			if m == Drop {
				return broken
			}
			return nil
		})
		want := func(m Mode, all ...Mode) {
			t.Helper()
			synctest.Wait()
			if s.Mode() != m || !slices.Equal(applied, all) || s.Until().IsZero() != (m == None) {
				t.Fatalf("mode %q until %v, applied %v; want %q, %v", s.Mode(), s.Until(), applied, m, all)
			}
		}
		set := func(m Mode, d time.Duration) {
			t.Helper()
			if err := s.Set(m, d); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Clear(); err != nil {
			t.Fatal(err)
		}
		want(None)
		set(Drop, 10*time.Second)
		want(Drop, Drop)
		time.Sleep(9 * time.Second)
		set(Drop, 10*time.Second) // renewed
		time.Sleep(9 * time.Second)
		want(Drop, Drop)
		set(Refuse, 5*time.Second)
		want(Refuse, Drop, Refuse)
		time.Sleep(6 * time.Second)
		want(None, Drop, Refuse, None)
		set(Drop, time.Second)
		set(None, 0)
		want(None, Drop, Refuse, None, Drop, None)
		broken = errors.New("cannot")
		applied = nil
		if err := s.Set(Drop, time.Second); !errors.Is(err, broken) {
			t.Errorf("what cannot be applied: %v", err)
		}
		want(None, Drop, None)
	})
}

// What is new ends with the mode of the last change, also where that came meanwhile.
func TestJoin(t *testing.T) {
	for _, modes := range [][]Mode{{None}, {Drop, Drop}, {Drop, Refuse, Refuse}, {Drop, None, None}} {
		var did []Mode
		i := -1
		Join(func() Mode { i++; return modes[i] }, func(m Mode) error { did = append(did, m); return errors.New("cannot") })
		if want := modes[:len(modes)-1]; !slices.Equal(did, want) {
			t.Errorf("%v: it did %v", modes, did)
		}
	}
}

// A connection that has ended, or has no socket, is no error.
func TestBehaveLeavesAlone(t *testing.T) {
	pipe, other := net.Pipe()
	defer other.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ended, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ended.Close()
	for _, mode := range []Mode{None, Drop, Refuse} {
		for _, c := range []net.Conn{pipe, ended} {
			if err := Behave(c, mode, c.Close); err != nil {
				t.Errorf("%v %T: %v", mode, c, err)
			}
		}
	}
}
