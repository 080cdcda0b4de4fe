// Package allot gives numbers of a range to keys, so that a number never means
// two things at one time or in quick succession. It is pure: the caller says
// what is held and resting when it begins, and keeps that somewhere.
package allot

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// ErrExhausted is wrapped by the error of Take where no number is left.
var ErrExhausted = errors.New("no number is left")

// Pool gives out the numbers First to Last, each to one key at a time. Numbers
// that were given up rest before another key gets them; their own key gets them
// back at once. A Pool is not for several goroutines.
type Pool struct {
	first, last int
	rest        time.Duration
	share       int // most numbers of one owner, held and resting; 0: no bound
	held        map[string]int
	holder      map[int]string
	resting     map[int]Rested
	owner       map[string]string    // of the keys that hold a number
	has         map[string]int       // how many numbers of the range each owner holds, or has rest
	former      map[string]int       // key to the number that rests for it
	inside      int                  // how many of resting are of the range: it may have been another
	spentUntil  map[string]time.Time // of owners that have their share: until when nobody looks whether one has rested
	fullUntil   time.Time            // while all numbers are held or rest: when the first of them may wake
}

// Rested is a number that was given up and is not to be given to another key
// before it has rested.
type Rested struct {
	Number int
	Key    string // who had it; "" where that was forgotten
	Owner  string // whose share it is of; "" where that was forgotten
	Since  time.Time
}

// New returns a pool of the numbers first to last, none of them given. There are
// none where last < first.
func New(first, last int, rest time.Duration) *Pool {
	return &Pool{
		first: first, last: last, rest: rest, owner: map[string]string{}, has: map[string]int{}, spentUntil: map[string]time.Time{},
		held: map[string]int{}, holder: map[int]string{}, resting: map[int]Rested{}, former: map[string]int{},
	}
}

// Halve has no owner get more than half of the numbers, those that rest included,
// so that nobody uses up the range alone. It comes before all else.
func (p *Pool) Halve() { p.share = (p.last - p.first + 2) / 2 }

// Hold notes that key of owner has number already, and reports whether it may keep it:
// not where the number is outside the range or another key's, or where key has
// another number.
func (p *Pool) Hold(key, owner string, number int) bool {
	if have, ok := p.held[key]; ok {
		return have == number
	}
	if _, taken := p.holder[number]; taken || !p.contains(number) {
		return false
	}
	p.take(key, owner, number)
	return true
}

func (p *Pool) take(key, owner string, number int) {
	p.wake(number)
	p.held[key], p.holder[number], p.owner[key] = number, key, owner
	p.count(owner, 1)
}

// count notes that owner has sign more numbers.
func (p *Pool) count(owner string, sign int) {
	if p.has[owner] += sign; p.has[owner] == 0 {
		delete(p.has, owner)
	}
}

// Rest notes that a number rests already. One that is held does not.
func (p *Pool) Rest(r Rested, now time.Time) {
	if r.Since.After(now) { // a clock that was ahead must not make it rest for ever
		r.Since = now
	}
	if _, taken := p.holder[r.Number]; taken || now.Sub(r.Since) >= p.rest {
		return
	}
	p.lay(r)
}

// lay has a number rest.
func (p *Pool) lay(r Rested) {
	p.wake(r.Number)
	p.resting[r.Number] = r
	if p.contains(r.Number) {
		p.inside++
		p.count(r.Owner, 1)
	}
	if r.Key != "" {
		p.former[r.Key] = r.Number
	}
	if until := r.Since.Add(p.rest); until.Before(p.fullUntil) {
		p.fullUntil = until
	}
}

func (p *Pool) contains(number int) bool { return p.first <= number && number <= p.last }

// Take returns the number of key, which owner has from now on: the one that it
// has, else the one that rests for it, else the next free one from where its hash
// says. The error, which wraps ErrExhausted, says that there is none, or none for
// owner; one whose name is empty has no share that is bounded.
func (p *Pool) Take(key, owner string, now time.Time) (int, error) {
	if number, ok := p.held[key]; ok {
		p.count(p.owner[key], -1)
		p.count(owner, 1)
		p.owner[key] = owner
		return number, nil
	}
	if number, ok := p.former[key]; ok && p.contains(number) {
		p.take(key, owner, number)
		return number, nil
	}
	if p.spent(owner, now) {
		return 0, fmt.Errorf("%w in %d-%d for %s: its share is %d, and it has %d, with those that rest for up to %v after they were given up", ErrExhausted, p.first, p.last, owner, p.share, p.has[owner], p.rest)
	}
	number, ok := p.find(key, now)
	if !ok {
		return 0, fmt.Errorf("%w in %d-%d: %d are in use and %d rest for up to %v after they were given up", ErrExhausted, p.first, p.last, len(p.held), p.inside, p.rest)
	}
	p.take(key, owner, number)
	return number, nil
}

// spent reports whether owner has its share.
func (p *Pool) spent(owner string, now time.Time) bool {
	if p.share == 0 || owner == "" || p.has[owner] < p.share {
		return false
	}
	if !now.Before(p.spentUntil[owner]) {
		p.Wake(now)
		p.spentUntil[owner] = now.Add(min(p.rest, time.Second))
	}
	return p.has[owner] >= p.share
}

func (p *Pool) find(key string, now time.Time) (int, bool) {
	size := p.last - p.first + 1
	if size <= 0 || len(p.held) >= size || p.full(size, now) {
		return 0, false
	}
	for i, start := 0, p.Start(key); i < size; i++ {
		number := p.first + (start-p.first+i)%size
		if _, taken := p.holder[number]; taken {
			continue
		}
		if r, rests := p.resting[number]; !rests || now.Sub(r.Since) >= p.rest {
			return number, true
		}
	}
	return 0, false
}

// full reports whether all numbers are held or rest. Where they are, nobody looks
// through them again before one of them may have rested enough.
func (p *Pool) full(size int, now time.Time) bool {
	if len(p.held)+p.inside < size {
		return false
	}
	if now.Before(p.fullUntil) {
		return true
	}
	p.Wake(now)
	if len(p.held)+p.inside < size {
		return false
	}
	p.fullUntil = now.Add(p.rest)
	for _, r := range p.resting {
		if until := r.Since.Add(p.rest); until.Before(p.fullUntil) {
			p.fullUntil = until
		}
	}
	return true
}

// Start is where the search for a number of key starts: the same in every
// cluster that has the same range.
func (p *Pool) Start(key string) int {
	h := fnv.New64a()
	h.Write([]byte(key))
	return p.first + int(h.Sum64()%uint64(max(p.last-p.first+1, 1)))
}

// Give has key give its number up, which rests from now on. It reports whether
// key had one.
func (p *Pool) Give(key string, now time.Time) bool {
	number, ok := p.held[key]
	if !ok {
		return false
	}
	delete(p.held, key)
	delete(p.holder, number)
	p.count(p.owner[key], -1)
	p.lay(Rested{number, key, p.owner[key], now})
	delete(p.owner, key)
	return true
}

// wake ends the rest of number.
func (p *Pool) wake(number int) {
	if r, ok := p.resting[number]; ok {
		delete(p.resting, number)
		if p.contains(number) {
			p.inside--
			p.count(r.Owner, -1)
		}
		if p.former[r.Key] == number {
			delete(p.former, r.Key)
		}
	}
}

// Wake ends the rest of all numbers that have rested enough, and reports whether
// there was one.
func (p *Pool) Wake(now time.Time) bool {
	before := len(p.resting)
	for number, r := range p.resting {
		if now.Sub(r.Since) >= p.rest {
			p.wake(number)
		}
	}
	return len(p.resting) < before
}

// Resting returns the numbers that rest, sorted.
func (p *Pool) Resting() []Rested {
	out := make([]Rested, 0, len(p.resting))
	for _, r := range p.resting {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rested) int { return cmp.Compare(a.Number, b.Number) })
	return out
}
