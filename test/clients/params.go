// What lib/pq makes of parameters: everything goes as untyped text, so all of it fits.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	q := os.Getenv("QUEUE")
	check := func(name string, expected string, text string, values ...interface{}) {
		var got string
		if err := db.QueryRow(text, values...).Scan(&got); err != nil {
			fmt.Printf("not ok %s: %v\n", name, err)
		} else if got != expected {
			fmt.Printf("not ok %s: got %s\n", name, got)
		} else {
			fmt.Printf("ok %s\n", name)
		}
	}
	check("enqueue, payload as text", "true", "SELECT queue.enqueue($1, $2, $3) > 0", "k", `{"n": 1}`, q)
	check("enqueue, delay as text", "true", "SELECT queue.enqueue($1, $2, $3, delay => $4) > 0", "k", "{}", q, "1 hour")
	check("enqueue, run_at as time", "true", "SELECT queue.enqueue($1, $2, $3, run_at => $4) > 0", "k", "{}", q, time.Now())
	check("enqueue_json", "true", "SELECT queue.enqueue_json($1) > 0", fmt.Sprintf(`{"kind": "k", "queue": %q}`, q))
	check("enqueue_many, an array", "2", "SELECT count(*) FROM queue.enqueue_many($1, $2, $3)", "k", pq.Array([]string{"{}", `{"n": 2}`}), q)
	var id, next int64
	var attempt int
	if err := db.QueryRow("SELECT id, attempt FROM queue.fetch($1, $2, lease => $3)", q, 1, "1 min").Scan(&id, &attempt); err != nil {
		panic(err)
	}
	check("heartbeat", "true", "SELECT queue.heartbeat($1, $2, $3) > now()", id, "2 min", attempt)
	check("complete, a wrong attempt", "false", "SELECT queue.complete($1, $2)", id, 99)
	check("complete, a result", "true", "SELECT queue.complete($1, $2, $3)", id, attempt, `{"ok": true}`)
	if err := db.QueryRow("SELECT id FROM queue.fetch($1, complete_ids => $2, complete_attempts => $3)", q,
		pq.Array([]int64{id}), pq.Array([]int64{int64(attempt)})).Scan(&next); err != nil {
		panic(err)
	}
	check("complete_many, arrays", "1", "SELECT count(*) FROM queue.complete_many($1, $2)", pq.Array([]int64{next}), pq.Array([]int64{1}))
	check("null for an option", "true", "SELECT queue.enqueue($1, $2, $3, run_at => $4) > 0", "k", "{}", q, nil)
	db.Close()
}
