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

	_ "github.com/lib/pq"
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
				if err := db.QueryRow("SELECT queue.heartbeat($1, $2, $3)", id, interval, attempt).Scan(&until); err == nil && !until.Valid {
					cancel()
				}
			}
		}
	}()
	result, failure := work(ctx, payload)
	var err error
	switch {
	case failure == nil:
		_, err = db.Exec("SELECT queue.complete($1, $2, $3)", id, attempt, string(result))
	case errors.Is(failure, context.Canceled):
		_, err = db.Exec("SELECT queue.release($1, $2)", id, attempt)
	default:
		_, err = db.Exec("SELECT queue.fail($1, $2, $3)", id, attempt, failure.Error())
	}
	return err
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
		err := db.QueryRow("SELECT id, attempt, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)",
			env("QUEUE", "default"), fmt.Sprintf("%d s", lease), env("WAIT", "5 s"), fmt.Sprintf("go:%d", os.Getpid())).Scan(&id, &attempt, &payload)
		if err == nil {
			err = run(stop, db, lease, id, attempt, payload)
		}
		if err != nil && err != sql.ErrNoRows {
			log.Print(err)
			time.Sleep(time.Second)
		}
	}
}
