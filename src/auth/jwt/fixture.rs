//! RSA keys, which the tests can't generate, and tokens that are signed with them.

/// The modulus.
pub(super) const RSA_N: &str = "\
     vwp0R7naQn3eZi4D72EWOX105OuV5aeCylcXn3_-CRelhyp3Rgj-p0AHwQADDyQ-_8J_r9T4y0ifCF2VJA6LYd9yEEu9lkA1aUmK0kihlB-H\
     8GaM88uTIIEJsiBxDZdU9xag0YyE0R8OzwoVe_mGfg0oQbaSB4mnn0pUDdvYAgM1pCEgBhfxzPFQNEo6uS6OJ8Gr79PJZuUN369GkqD7wHGh\
     0zHpxApR2iGlWUO80RHQUsXvuKT_YZHPcXY5hqsaIUaHL8l2VLs0pUv5gqk91_rGlHpkiGUtmWEQfj3GUdS6IbPPpRCA1zGR6Cp8rYkVgeWn\
     wuGXHWFvFLb-fpm_WQ";

/// For user 42 of `https://issuer.test`, good from 2023 to 2100.
pub(super) const RSA_TOKEN: &str = "\
     eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoidXNlci1zZXJ2aWNlIiwic3V\
     iIjoiNDIiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMH0.SZXLiOY8a_fYYnmML81ZAXDU7hCSldMK98ox9CzO5SnPukkgpVF\
     xilYyCTedqDYcxaatwqxHX36IvuzOE3Hq3vSOWtorxBZkNt4WjBGnOFezj-SqrXp6gKSj-UXo4qw_b1d3beX84_U7mPNlF736bUyYmPvF3Fi\
     HaRAduBrLTPvE4dLkiYPP4ZJHzGrSBAjLH3UsgqRRYq7pHOzmRGPJO6O-z6Bk23fHD4ygQBIAgqJLF9nP2k6UzKWucqLO5sORG3Cdo8UM4Qi\
     NLv_GoP_gyOimagt1YUqJAJMZ8WTG4QsT3hB2JMpnbDPKQXLSP2Cv4B2R7pa2euq29hS6NCZULg";

/// The modulus of a second key. The next token is signed with it, with RSASSA-PSS.
pub(super) const PSS_N: &str = "\
     nMZgvRyTYZnWwbupVSHXAxLW6mvJ5pHxQFkUsyQroetaqrVrTqWJPZvgGmlaA_7oivHnEQr0h9ToOZhLpOSEL_HngmUYUYjKM5ymlfTz2LIrXB\
     CbOhuna40_ScvErvXpnWvRgyJdZ-d6YYP63qbH3V4piHg5D5s4z_5Cyb9vJ6wieiBIyLAQqLIBYwt5bZoWlS7QI4ceDz4Orh3DzrgqQewr6cu_\
     jQaFANfdLg2U0xNUHxVxCXTsHllnL27WBB7tQ-bpDUn0AwJ7K4rvTJW7ciRy9uM3bN0bgGgTGXSvVCpmhPE8PaixbsgywY7MJWJzWIa_8CHOfQ\
     c5oCsa5XeVyQ";

/// The same claims, signed with PS256.
pub(super) const PSS_TOKEN: &str = "\
     eyJhbGciOiJQUzI1NiIsImtpZCI6InBzcyJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoidXNlci1zZXJ2aWNlIiwic3ViI\
     joiNDIiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMH0.mgfLzqE2YqGBx0CiabBC2EHhCQLqx9DntpIleqfUW3Q3q9MTvqjOe_3\
     d5WF1skasYIuXme0oT7sbsY5y821iP6nnDTnQmkQA5tzlc7wlkLKzjZYlAau7cqsfdYXnv75TbLxnqnqoX0EG0E-EGFCprgz9Wo227weukcBvw\
     B3NC9bWJk5OiEXtC7cvBcXm_ekWvRQRCGg60dFpQWNTty2yyC48g6BRMiev3r1CZnJbPCluqcBxu06nUubQ1EW98c132MDRVKC_FF5yEEfaTbl\
     D5nzY51WVrXVl7N8_cNvjMtiW8QpmvX_hWXT3ZuhHWl69hitOane6isCCRw1VTbrejA";
