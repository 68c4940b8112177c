"""What a run is (its identity), what it leaves behind (its folder), and the state that it goes on from."""
