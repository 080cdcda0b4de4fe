package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

const (
	firstBackoff = time.Second
	mostBackoff  = time.Minute
	firstDial    = 200 * time.Millisecond // from one dial of isthmusd to the next; doubles
	mostDial     = 2 * time.Second
	signTimeout  = 15 * time.Second
	alarmAt      = 4 // complain loudly when less than 1/alarmAt of the life is left
)

// renew obtains an SVID when there is none, and another at half of each one's
// life, until ctx ends.
func (i *Identity) renew(ctx context.Context) {
	var since time.Time // when the current SVID came; zero: from an earlier process
	for failures := 0; ; {
		var alive bool
		if failures > 0 {
			var connected bool
			if connected, alive = i.sleepAfter(ctx, retryAfter(failures, mathrand.Float64())); connected {
				failures = 0
			}
		} else {
			alive = i.sleep(ctx, i.untilRenewal(since, time.Now(), mathrand.Float64()))
		}
		if !alive {
			return
		}
		select { // this attempt answers whoever woke us before it
		case <-i.wake:
		default:
		}
		if err := i.obtain(ctx); err != nil {
			failures++
			i.failed(ctx, err)
			continue
		}
		failures, since = 0, time.Now()
	}
}

// untilRenewal is how long the current SVID need not be renewed; chance is from
// 0 to 1.
func (i *Identity) untilRenewal(since, now time.Time, chance float64) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.svid.IsZero() {
		return 0
	}
	if since.Before(i.svid.NotBefore) {
		since = i.svid.NotBefore
	}
	return max(0, renewAt(since, i.svid.NotAfter, chance).Sub(now))
}

// renewAt is half-way from since to end, give or take a tenth of that, so that
// workloads that started together do not renew together.
func renewAt(since, end time.Time, chance float64) time.Time {
	half := end.Sub(since) / 2
	return since.Add(half - half/10 + time.Duration(chance*float64(half)/5))
}

// retryAfter doubles with each failure up to a minute, of which the second half is
// by chance.
func retryAfter(failures int, chance float64) time.Duration {
	full := mostBackoff
	if failures < 7 {
		full = min(mostBackoff, firstBackoff<<(failures-1))
	}
	return full/2 + time.Duration(chance*float64(full)/2)
}

// sleep waits for delay or until takeBundle wakes it. False means that ctx ended.
func (i *Identity) sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-i.wake:
	}
	return ctx.Err() == nil
}

// obtain makes a new key, has it signed, and keeps both.
func (i *Identity) obtain(ctx context.Context) error {
	if _, err := i.Bundle(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make csr: %w", err)
	}
	chain, err := i.sign(ctx, csr)
	if err != nil {
		return fmt.Errorf("have key signed: %w", err)
	}
	svid, err := trust.NewSVID(chain, key)
	if err != nil {
		return err
	}
	if err := i.takeSVID(svid); err != nil {
		return fmt.Errorf("signed certificate: %w", err)
	}
	i.obtained(svid)
	return nil
}

func (i *Identity) obtained(svid trust.SVID) {
	i.mu.Lock()
	i.status.RenewalError, i.useToken = "", false
	i.mu.Unlock()
	i.log.Info("identity obtained", "id", svid.ID.String(), "not_after", svid.NotAfter.UTC().Format(time.RFC3339))
	if err := i.keep(); err != nil {
		i.log.Warn("identity not kept for a restart", "err", err)
	}
}

// failed notes an attempt that did not work. The next one goes the other way: a
// certificate that isthmusd no longer accepts is replaced by the token, and a
// token that it cannot have reviewed now by the certificate.
func (i *Identity) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	svid, missing := i.SVID()
	i.mu.Lock()
	again := i.status.RenewalError == err.Error()
	i.status.RenewalError = err.Error()
	i.useToken = !i.useToken
	i.mu.Unlock()
	switch {
	case errors.Is(missing, ErrExpired):
		i.log.Error("identity expired and not renewed", "err", err)
	case missing == nil && time.Until(svid.NotAfter) < svid.NotAfter.Sub(svid.NotBefore)/alarmAt:
		i.log.Error("identity about to expire and not renewed", "not_after", svid.NotAfter.UTC().Format(time.RFC3339), "err", err)
	case !again:
		i.log.Warn("identity not obtained, trying again", "err", err)
	}
}
