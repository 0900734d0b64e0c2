//! A key of RSA, which the tests cannot make by themselves, and a token that it signed.

/// The modulus.
pub const RSA_N: &str = "\
     vwp0R7naQn3eZi4D72EWOX105OuV5aeCylcXn3_-CRelhyp3Rgj-p0AHwQADDyQ-_8J_r9T4y0ifCF2VJA6LYd9yEEu9lkA1aUmK0kihlB-H\
     8GaM88uTIIEJsiBxDZdU9xag0YyE0R8OzwoVe_mGfg0oQbaSB4mnn0pUDdvYAgM1pCEgBhfxzPFQNEo6uS6OJ8Gr79PJZuUN369GkqD7wHGh\
     0zHpxApR2iGlWUO80RHQUsXvuKT_YZHPcXY5hqsaIUaHL8l2VLs0pUv5gqk91_rGlHpkiGUtmWEQfj3GUdS6IbPPpRCA1zGR6Cp8rYkVgeWn\
     wuGXHWFvFLb-fpm_WQ";

/// For user 42 of `https://issuer.test`, good from 2023 to 2100.
pub const RSA_TOKEN: &str = "\
     eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoidXNlci1zZXJ2aWNlIiwic3V\
     iIjoiNDIiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMH0.SZXLiOY8a_fYYnmML81ZAXDU7hCSldMK98ox9CzO5SnPukkgpVF\
     xilYyCTedqDYcxaatwqxHX36IvuzOE3Hq3vSOWtorxBZkNt4WjBGnOFezj-SqrXp6gKSj-UXo4qw_b1d3beX84_U7mPNlF736bUyYmPvF3Fi\
     HaRAduBrLTPvE4dLkiYPP4ZJHzGrSBAjLH3UsgqRRYq7pHOzmRGPJO6O-z6Bk23fHD4ygQBIAgqJLF9nP2k6UzKWucqLO5sORG3Cdo8UM4Qi\
     NLv_GoP_gyOimagt1YUqJAJMZ8WTG4QsT3hB2JMpnbDPKQXLSP2Cv4B2R7pa2euq29hS6NCZULg";
