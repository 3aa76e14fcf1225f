// A worker in Go with database/sql and lib/pq (Debian: golang-github-lib-pq-dev).  Copy it, and change work.
//
//	DATABASE_URL=postgres://... go run worker.go      SIGTERM: give back what is claimed, then end
//
// lib/pq prepares each query with parameters; behind a transaction pooler add binary_parameters=yes to the URL, which
// sends it in one round trip without a named statement.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/lib/pq"
)

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// ctx ends when the job is not ours any more, or when we are to stop.
func work(ctx context.Context, payload []byte) ([]byte, error) {
	var p struct {
		Fail    string `json:"fail"`
		SleepMs int    `json:"sleep_ms"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, err
	}
	if p.Fail != "" {
		return nil, errors.New(p.Fail)
	}
	select {
	case <-time.After(time.Duration(p.SleepMs) * time.Millisecond):
		return []byte(`{"ok": true}`), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call tries again when the server or the pooler was restarted.  That is safe for every call here: with the attempt given, a
// second complete or fail of one claim changes nothing.
func call(stop context.Context, db *sql.DB, into []any, query string, args ...any) error {
	for {
		err := db.QueryRow(query, args...).Scan(into...)
		var answer *pq.Error
		if err == nil || err == sql.ErrNoRows || stop.Err() != nil {
			return err
		}
		if errors.As(err, &answer) && answer.Code.Class() != "08" && answer.Code.Class() != "53" && answer.Code.Class() != "57" {
			return err
		}
		log.Print(err)
		time.Sleep(500 * time.Millisecond)
	}
}

func run(stop context.Context, db *sql.DB, lease int, id int64, attempt int, payload []byte) error {
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	interval := fmt.Sprintf("%d s", lease)
	go func() {
		tick := time.NewTicker(time.Duration(lease) * time.Second / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				var until sql.NullString
				if err := call(ctx, db, []any{&until}, "SELECT queue.heartbeat($1, $2, $3)", id, interval, attempt); err == nil && !until.Valid {
					cancel()
				}
			}
		}
	}()
	result, failure := work(ctx, payload)
	var answer sql.NullString
	switch {
	case failure == nil:
		return call(stop, db, []any{&answer}, "SELECT queue.complete($1, $2, $3)", id, attempt, string(result))
	case errors.Is(failure, context.Canceled):
		return call(stop, db, []any{&answer}, "SELECT queue.release($1, $2)", id, attempt)
	default:
		return call(stop, db, []any{&answer}, "SELECT queue.fail($1, $2, $3)", id, attempt, failure.Error())
	}
}

func main() {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	lease, _ := strconv.Atoi(env("LEASE", "60"))
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for stop.Err() == nil {
		var id int64
		var attempt int
		var payload []byte
		// Not cancelled by stop: a fetch that is cancelled too late has claimed for nobody.
		err := call(stop, db, []any{&id, &attempt, &payload},
			"SELECT id, attempt, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)",
			env("QUEUE", "default"), fmt.Sprintf("%d s", lease), env("WAIT", "5 s"), fmt.Sprintf("go:%d", os.Getpid()))
		if err == nil {
			err = run(stop, db, lease, id, attempt, payload)
		}
		if err != nil && err != sql.ErrNoRows {
			log.Print(err)
			time.Sleep(time.Second)
		}
	}
}
